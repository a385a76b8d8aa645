"""moor stop"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import add_target, target_of
from moorage.errors import UsageError
from moorage.launch.plane import Plane
from moorage.launch.stop import stop_all
from moorage.launch.target import find_target

SUMMARY = "Stop a service, verify that it is gone, and forget it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("--all", action="store_true", help="every service (of --network-arch, if given)")
    parser.add_argument("--delete-instance", action="store_true", help="brev: the machine that the start made, too")
    parser.add_argument("--dry-run", action="store_true", help="show what would be stopped")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    entries = _entries(args, plane)
    if args.dry_run:
        return {"plan": {"job_ids": [entry["job_id"] for entry in entries]}}
    for entry in entries:
        out.talk(f"Stopping job_id={entry['job_id']}")
    stopped = stop_all(plane, entries, out, delete_instance=args.delete_instance)
    return {"stopped": stopped, "latest": plane.registry.read().latest}


def show(data: dict[str, Any], out: Output) -> None:
    if "plan" in data:
        out.line("\n".join(data["plan"]["job_ids"]) or "nothing to stop")
        return
    for job_id in data["stopped"]:
        out.line(f"{job_id} stopped")
    if not data["stopped"]:
        out.line("nothing to stop")


def _entries(args: argparse.Namespace, plane: Plane) -> list[dict[str, Any]]:
    target, writes = target_of(args), not args.dry_run
    if not args.all:
        return [find_target(plane, **target, platform=args.platform, verb="stop", quarantine=writes)]
    if target["job_id"]:
        raise UsageError("--all and an id", hint="give one of them")
    wanted = {"network_arch": target["network_arch"], "platform": args.platform}
    services = plane.registry.read(quarantine=writes).services.values()
    return [one for one in services if all(value in (None, one.get(name)) for name, value in wanted.items())]
