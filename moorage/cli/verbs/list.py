"""moor list"""

from __future__ import annotations

import argparse

from moorage.cli.output import Output, table
from moorage.cli.parser import add_platform
from moorage.launch.observe import as_seen, observe
from moorage.launch.plane import Plane

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SUMMARY = "What is running, as the platforms and the servers say now."
SHOWN = ("network_arch", "platform", "host_url", "started_at")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_platform(parser, "only the services of this platform")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    state = plane.registry.read()
    entries = [one for one in state.services.values() if args.platform in (None, one.get("platform"))]
    seen = observe(plane, entries)
    return {"services": [as_seen(one, seen[one["job_id"]]) for one in entries], "latest": state.latest}


def show(data: dict[str, Any], out: Output) -> None:
    if not data["services"]:
        out.line("no services; moor start starts one")
        return
    rows = [["JOB ID", "ARCH", "PLATFORM", "STATE", "URL", "STARTED"]]
    for entry in data["services"]:
        state = f"{entry['state']} ({entry['reason']})" if entry["reason"] else entry["state"]
        names = ("network_arch", "platform")
        middle = [str(entry.get(name, "")) for name in names]
        rows.append(
            [entry["job_id"], *middle, state, str(entry.get("host_url") or ""), str(entry.get("started_at", ""))[:19]]
        )
    for row in table(rows):
        out.line(row)
