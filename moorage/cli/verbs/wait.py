"""moor wait"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import add_target, duration_s, target_of
from moorage.launch.plane import Plane
from moorage.launch.target import find_target

SUMMARY = "Wait until a service is ready."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("--timeout", type=duration_s, metavar="S", help="how long (default 1800)")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.launch.start import wait_for

    entry = find_target(plane, **target_of(args), platform=args.platform, verb="wait")
    return wait_for(plane, entry, args.timeout, out)


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"{data['job_id']} is ready at {data['host_url']}")
