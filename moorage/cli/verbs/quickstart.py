"""moor quickstart"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.launch.plane import Plane

SUMMARY = "Start a tiny model on a real engine on this machine, ask it something, and stop it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--prompt", default="What is 2+2?", metavar="TEXT", help="what to ask (What is 2+2?)")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.launch.quickstart import quickstart

    return quickstart(plane, args.prompt, out, keep=args.keep)


def show(data: dict[str, Any], out: Output) -> None:
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in data["phases_s"].items())
    out.line(f"phases : {phases}")
    out.line(f"Job ID : {data['job_id']}")
    out.line(f"URL    : {data['url']}")
    out.line(f"Asked  : {data['prompt']}")
    out.line(f"Answer : {data['answer']}")
    out.line(f"Model  : {data['model']}")
    out.line("It is still running." if data["kept"] else "It was stopped again.")
    out.line("Next:")
    for command in data["next"]:
        out.line(f"  {command}")
