"""moor serve down"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.extras import package_missing
from moorage.launch.plane import Plane

SUMMARY = (
    "End what moor serve up started: API, gateway, replicas, Ray. What was declared is served again by the next up."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    try:
        from moorage.serving.up.place import Place
        from moorage.serving.up.take_down import take_down
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "serving needs its extra", "serve") from fault
    place = Place(plane.environ)
    return {"ended": take_down(place, plane.environ, out), "folder": str(place.folder)}


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"Ended: {', '.join(data['ended'])}." if data["ended"] else "Nothing was up.")
    out.line(f"Declared models, tokens and logs are kept in {data['folder']}.")
