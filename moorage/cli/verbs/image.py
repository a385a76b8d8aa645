"""moor image"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.launch.plane import Plane

SUMMARY = "The container image of an arch, and where it comes from."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", metavar="ARCH")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.catalog.image import resolve_image

    found = resolve_image(plane.catalog, plane.catalog.require_arch(args.arch), plane.environ)
    return {"image": found.image, "key": found.key, "source": found.source}


def show(data: dict[str, Any], out: Output) -> None:
    out.line(data["image"])
