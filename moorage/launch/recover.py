"""Rebuilding the registry from what the platforms still know."""

from __future__ import annotations

from moorage.errors import MoorageError
from moorage.launch.entry import Entry
from moorage.launch.observe import as_seen, observe
from moorage.launch.plane import Plane
from moorage.launch.platforms import PLATFORMS
from moorage.launch.platforms.base import Report
from moorage.launch.processes import identity_from, is_alive
from moorage.launch.reaper import spawn_reaper


def recover(plane: Plane, platform: str | None, report: Report) -> list[Entry]:
    """Find every service we ever labelled, write them into the registry, and start their tunnels and reapers again.

    What can still be read of a damaged file is kept; the file itself is kept beside. Raises PlatformUnreachable only
    for a platform that was named; one of several that does not answer is reported and left out.
    """
    found: dict[str, Entry] = {}
    for name in [platform] if platform else PLATFORMS:
        try:
            entries = plane.platform(name).find()
        except MoorageError as fault:
            if platform:
                raise
            if fault.code == "not_configured":
                continue
            report("warning", f"{name} could not be asked: {fault.message}")
            continue
        found.update({entry["job_id"]: entry for entry in entries})
    state = plane.registry.rebuild(found)  # first: a tunnel is started for a recorded service only
    seen = observe(plane, [state.services[job_id] for job_id in found])
    with plane.registry.transaction() as state:
        known = [job_id for job_id in found if job_id in state.services]  # others were stopped meanwhile
        for job_id in known:
            state.services[job_id] |= {**seen[job_id].fields, "state": seen[job_id].state}
    for job_id in known:
        _restart_reaper(plane, state.services[job_id])
    now = plane.registry.read().services
    return [as_seen(now[job_id], seen[job_id]) for job_id in known if job_id in now]


def _restart_reaper(plane: Plane, entry: Entry) -> None:
    if entry.get("ttl_s") is None and entry.get("idle_timeout_s") is None:
        return
    reaper = identity_from(entry.get("reaper"))
    if reaper is not None and is_alive(reaper):
        return
    with plane.registry.transaction() as state:
        if entry["job_id"] in state.services:
            state.services[entry["job_id"]]["reaper"] = spawn_reaper(plane, entry["job_id"]).as_field()
