"""moor recover"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import add_platform
from moorage.launch.plane import Plane

SUMMARY = "Rebuild the registry from what the platforms know of our services."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_platform(parser, "ask only this platform")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.launch.recover import recover

    return {"recovered": recover(plane, args.platform, out)}


def show(data: dict[str, Any], out: Output) -> None:
    for entry in data["recovered"]:
        out.line(f"{entry['job_id']}  {entry.get('network_arch')}  {entry['state']}  {entry.get('host_url')}")
    if not data["recovered"]:
        out.line("nothing of ours is running")
