"""moor quickstart"""

from __future__ import annotations

import argparse
import random
from typing import Any

from moorage.cli.output import Output
from moorage.launch.plane import Plane

SUMMARY = "Start a tiny model on a real engine on this machine, ask it something, and stop it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--prompt", metavar="TEXT", help="what to ask (What is 2+2?, and a sum drawn at random)")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.launch.quickstart import quickstart

    drawn = f"What is {random.randint(10, 99)}+{random.randint(10, 99)}?"  # noqa: S311 - any sum will do
    return quickstart(plane, [args.prompt] if args.prompt else ["What is 2+2?", drawn], out, keep=args.keep)


def show(data: dict[str, Any], out: Output) -> None:
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in data["phases_s"].items())
    out.line(f"phases : {phases}")
    out.line(f"Job ID : {data['job_id']}")
    out.line(f"URL    : {data['url']}")
    for one in data["asked"]:
        out.line(f"Asked  : {one['prompt']}")
        out.line(f"Answer : {one['answer']}")
    out.line(f"Model  : {data['model']}")
    out.line("It is still running." if data["kept"] else "It was stopped again.")
    out.line("Next:")
    for command in data["next"]:
        out.line(f"  {command}")
