"""moor logs"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import add_target, target_of
from moorage.errors import UsageError
from moorage.launch.plane import Plane
from moorage.launch.redact import redact
from moorage.launch.target import find_target

SUMMARY = "What a service wrote, without the values of secret variables."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("--tail", type=int, metavar="N", help="only the last N lines")
    parser.add_argument("--follow", action="store_true", help="go on until the service ends")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    if args.tail is not None and args.tail < 0:
        raise UsageError(f"--tail {args.tail}: zero or more lines")
    entry = find_target(plane, **target_of(args), platform=args.platform, verb="logs")
    platform = plane.platform(str(entry.get("platform")))
    lines = redact(platform.logs(entry, tail=args.tail, follow=args.follow), plane.secrets())
    if not args.follow:
        return {"job_id": entry["job_id"], "lines": list(lines)}
    shown = []
    for line in lines:
        out.stream("line", line)
        if out.as_json:  # the envelope repeats them; for people they are on the screen already
            shown.append(line)
    return {"job_id": entry["job_id"], "lines": shown}


def show(data: dict[str, Any], out: Output) -> None:
    for line in data["lines"]:
        out.line(line)
