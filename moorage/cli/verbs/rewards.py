"""moor rewards"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from moorage.cli.output import Output
from moorage.errors import MoorageError
from moorage.extras import package_missing
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.rewards.installed import Installed
    from moorage.rewards.loading import Described

SUMMARY = "Reward functions that a gateway can offer, those of other packages too."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["list"], help="list: what is installed, with its options")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    del args, out
    try:
        from moorage.rewards.describing import described
        from moorage.rewards.installed import installed
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "rewards need the gateway's extra", "gateway", "rewards") from fault
    return {"rewards": [_row(one, said) for one, said in described(installed(), plane.environ)]}


def show(data: dict[str, Any], out: Output) -> None:
    for row in data["rewards"]:
        version = f" {row['version']}" if row["version"] else ""
        out.line(f"{row['name']}{version}  ({row['package']})")
        out.line(f"  {row['fault']['message'] if row['fault'] else row['summary']}")
        for option in row["options"]:
            default = "required" if option["required"] else f"{option['default']!r}"
            out.line(f"    {option['name']}: {option['type']} = {default}")


def _row(one: Installed, said: Described | MoorageError) -> dict[str, Any]:
    import msgspec

    row = {"name": one.name, "package": one.package, "target": one.target}
    if isinstance(said, MoorageError):
        fault = {"code": said.code, "message": said.message}
        return {**row, "summary": "", "version": None, "options": [], "fault": fault}
    return {**row, **msgspec.to_builtins(said), "fault": None}
