"""moor serve status"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output, table
from moorage.extras import package_missing
from moorage.launch.plane import Plane

SUMMARY = "What runs of what moor serve up started, and whether it answers now."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    try:
        from moorage.serving.up.place import Place
        from moorage.serving.up.truth import look
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "serving needs its extra", "serve") from fault
    return look(Place(plane.environ))


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"{data['state']}" + (f", backend {data['backend']}" if data.get("backend") else ""))
    rows = [[part["name"], part["state"], str(part["pid"] or "-"), part["url"], part["log"]] for part in data["parts"]]
    for line in table([["PART", "STATE", "PID", "URL", "LOG"], *rows]) if rows else []:
        out.line(line)
    models = [
        [str(model["model_alias"]), str(model["state"]), str(model["model_id"])] for model in data["models"] or []
    ]
    for line in table([["MODEL", "STATE", "DATED NAME"], *models]) if models else []:
        out.line(line)
    if data["left_processes"]:
        out.line(f"left running: {', '.join(map(str, data['left_processes']))}; moor serve down ends them")
