"""moor serve"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import nearest
from moorage.errors import UsageError
from moorage.launch.plane import Plane

SUMMARY = "The serving control plane: moor serve up --help, moor serve api --help"

ACTIONS = ("up", "down", "status", "api", "user", "token")
"""Each is a verb of two words, in a file of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", nargs="?", help=", ".join(ACTIONS))


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    known = ", ".join(f"moor serve {action}" for action in ACTIONS)
    if args.action is None:
        raise UsageError(f"moor serve needs an action: {known}", hint="moor serve api --help")
    raise UsageError(f"moor serve has no {args.action!r}: there are {known}", hint=nearest(args.action, ACTIONS))


def show(data: dict[str, Any], out: Output) -> None:
    """It never comes to that."""
