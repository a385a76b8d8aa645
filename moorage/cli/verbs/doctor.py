"""moor doctor"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.errors import PreflightError
from moorage.launch.plane import Plane

SUMMARY = "Check what a platform needs. Changes nothing."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--platform", default="local-process", metavar="X", help="which (default local-process)")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.launch.doctor import examine

    checks = [
        {"name": check.name, "ok": check.ok, "message": check.message, "hint": check.hint}
        for check in examine(plane, args.platform)
    ]
    failed = [check for check in checks if not check["ok"]]
    if not failed:
        return {"checks": checks}
    if not out.as_json:
        show({"checks": checks}, out)
    raise PreflightError(
        f"{len(failed)} of {len(checks)} checks failed: {', '.join(str(check['name']) for check in failed)}",
        code="checks_failed",
        hint=str(failed[0]["hint"]),
        data={"checks": checks},
    )


def show(data: dict[str, Any], out: Output) -> None:
    for check in data["checks"]:
        hint = f"  → {check['hint']}" if check["hint"] and not check["ok"] else ""
        out.line(f"{'ok  ' if check['ok'] else 'FAIL'} {check['name']:<20} {check['message']}{hint}")
