"""Stopping services, and forgetting dead ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moorage.errors import MoorageError, UsageError
from moorage.launch.entry import Entry, now_utc
from moorage.launch.mending import remove_with_tunnel
from moorage.launch.observe import observe
from moorage.launch.plane import Plane
from moorage.launch.platforms import PLATFORMS
from moorage.launch.platforms.base import Platform, Report
from moorage.launch.processes import end_process, identity_from


def stop(plane: Plane, entry: Entry, *, delete_instance: bool = False) -> str | None:
    """End a service, verify that it is gone, and forget it; what stays and costs, in words. Gone already is success.

    `delete_instance`: also the machine that its start made.
    The entry is marked first, so that a start that is still launching this service takes it back, and so that nobody
    starts its tunnel again meanwhile; that goes last, with the entry. When the platform does not answer the entry stays
    and the error leaves.
    """
    job_id = entry["job_id"]
    platform = _platform_of(plane, entry)
    if delete_instance and entry["platform"] != "brev":
        raise UsageError(
            f"--delete-instance has no meaning for {job_id}: it runs on {entry['platform']}",
            code="flag_of_another_platform",
            hint="leave it away",
        )
    with _marked(plane, entry) as entry:
        stays = platform.stop({**entry, "delete_instance": True} if delete_instance else entry)
        end_reaper(plane, entry)
        with plane.registry.transaction() as state:
            remove_with_tunnel(plane, state, entry)
    return stays


def forget(plane: Plane, job_id: str) -> None:
    """Take an entry out of the registry and ask nobody: for services of platforms that we cannot reach.

    Its tunnel, which is here, is ended.
    """
    with plane.registry.transaction() as state:
        remove_with_tunnel(plane, state, state.services.get(job_id, {"job_id": job_id}))


def _platform_of(plane: Plane, entry: Entry) -> Platform:
    name = entry.get("platform")
    if name not in PLATFORMS:
        raise UsageError(
            f"the service {entry['job_id']} is on the platform {name!r}, which this version cannot stop",
            code="unknown_platform",
            hint="stop it with the tool that started it, then forget its entry",
            next=[f"moor prune --forget {entry['job_id']}"],
        )
    return plane.platform(str(name))


@contextmanager
def _marked(plane: Plane, entry: Entry) -> Iterator[Entry]:
    """The entry as it is now, marked as one that is being stopped. A stop that fails takes its mark away again."""
    job_id, mark = entry["job_id"], now_utc()
    with plane.registry.transaction() as state:
        if job_id in state.services:
            state.services[job_id]["stop_requested_at"] = mark
            entry = dict(state.services[job_id])
    try:
        yield entry
    except BaseException:
        with suppress(MoorageError), plane.registry.transaction() as state:
            if state.services.get(job_id, {}).get("stop_requested_at") == mark:
                del state.services[job_id]["stop_requested_at"]
        raise


def end_reaper(plane: Plane, entry: Entry) -> None:
    """End the service's reaper, if it has one, and take its log away; a reaper that asks for this itself goes on."""
    reaper = identity_from(entry.get("reaper"))
    if reaper is None or reaper.pid == os.getpid():
        return
    end_process(reaper, grace_s=2.0)
    reaper_log(plane, entry["job_id"]).unlink(missing_ok=True)


def reaper_log(plane: Plane, job_id: str) -> Path:
    """Where the service's reaper writes what it does: beside the state file."""
    state_file = plane.registry.path
    return state_file.with_name(f"{state_file.name}.reaper-{job_id}.log")


def stop_all(plane: Plane, entries: Iterable[Entry], report: Report, *, delete_instance: bool = False) -> list[str]:
    """Stop every one of them; the ids stopped. One that fails does not keep the others running.

    `delete_instance` of several: of those whose start made the machine. Raises the first failure after all were tried,
    with `data["stopped"]`.
    """
    entries = list(entries)
    alone = len(entries) == 1
    stopped: list[str] = []
    failures: list[MoorageError] = []
    for entry in entries:
        try:
            also = delete_instance and (alone or bool(entry.get("created_instance")))
            stays = stop(plane, entry, delete_instance=also)
        except MoorageError as fault:
            report("warning", f"{entry['job_id']} was not stopped: {fault.message}")
            failures.append(fault)
        else:
            stopped.append(entry["job_id"])
            if stays:
                report("warning", stays)
    if failures:
        failures[0].data = {**(failures[0].data or {}), "stopped": stopped}
        raise failures[0]
    return stopped


def dead_entries(plane: Plane) -> list[Entry]:
    """Entries whose service is dead, as the platforms and servers say now."""
    entries = list(plane.registry.read().services.values())
    seen = observe(plane, entries)
    return [entry for entry in entries if seen[entry["job_id"]].dead]
