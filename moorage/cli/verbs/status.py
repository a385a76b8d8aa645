"""moor status"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import add_target, target_of
from moorage.launch.observe import as_seen, observe
from moorage.launch.plane import Plane
from moorage.launch.target import find_target

SUMMARY = "One service, as the platform and the server say now."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    entry = find_target(plane, **target_of(args), platform=args.platform)
    return as_seen(entry, observe(plane, [entry])[entry["job_id"]])


def show(data: dict[str, Any], out: Output) -> None:
    for name, value in data.items():
        out.line(f"{name:<18} {value}")
