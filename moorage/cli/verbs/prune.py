"""moor prune"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import add_platform
from moorage.launch.plane import Plane
from moorage.launch.stop import dead_entries, forget, stop_all
from moorage.launch.target import find_target

SUMMARY = "Forget dead services and remove what is left of them: containers, logs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_platform(parser, "only the services of this platform")
    parser.add_argument("--forget", metavar="ID", help="take this entry away and ask no platform")
    parser.add_argument("--dry-run", action="store_true", help="show what would be forgotten")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    if args.forget:
        entry = find_target(plane, job_id=args.forget, network_arch=None)
        if not args.dry_run:
            forget(plane, entry["job_id"])
        return {"pruned": [entry["job_id"]]}
    dead = [one for one in dead_entries(plane) if args.platform in (None, one.get("platform"))]
    if args.dry_run:
        return {"pruned": [entry["job_id"] for entry in dead]}
    return {"pruned": stop_all(plane, dead, out)}


def show(data: dict[str, Any], out: Output) -> None:
    out.line("\n".join(data["pruned"]) or "nothing is dead")
