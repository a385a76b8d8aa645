"""The reaper: a small detached process that stops one service when its time is over or nobody uses it.

The TAO containers' own auto-delete only calls back to a server that we never set, so without this nothing ever stops
an idle GPU service. One reaper a service, known by pid and start time in the entry; it ends when the service or its
entry is gone, or when another reaper has taken its place. What it does is written beside the state file.

    python -m moorage.launch.reaper JOB_ID
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import moorage
from moorage.errors import FailedError, MoorageError
from moorage.launch.activity import Activity, read_activity
from moorage.launch.entry import Entry, started_at_s
from moorage.launch.observe import ask_platforms, being_launched
from moorage.launch.plane import Plane
from moorage.launch.processes import ProcessIdentity, identity_from, identity_of
from moorage.launch.stop import reaper_log, stop

LONGEST_PAUSE_S = 5.0
TAKE_OVER_S = 10.0
"""How long a new reaper waits to find itself in the entry."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no such limit."""

    ttl_s: float | None
    idle_timeout_s: float | None


def spawn_reaper(plane: Plane, job_id: str) -> ProcessIdentity:
    """Start the reaper of a service and return at once."""
    log_file = reaper_log(plane, job_id)
    source = str(Path(moorage.__file__).parent.parent)
    path = os.pathsep.join(part for part in (source, plane.environ.get("PYTHONPATH")) if part)
    env = {**plane.environ, "MOORAGE_STATE_FILE": str(plane.registry.path), "PYTHONPATH": path}
    env.pop("MOORAGE_LABEL", None)  # from inside a service, this would make the reaper a process of that service
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "moorage.launch.reaper", job_id],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)
    process.returncode = 0  # it is detached: nobody waits for it in a destructor
    identity = identity_of(process.pid)
    if identity is None:
        raise FailedError(f"the reaper of {job_id} ended at once", hint=f"{log_file} may say why")
    return identity


def reap_reason(now_s: float, started_s: float, last_used_s: float, limits: Limits) -> str | None:
    """Why the service should end now; None when it should not. Times in seconds since the epoch."""
    if limits.ttl_s is not None and now_s - started_s >= limits.ttl_s:
        return f"its time to live of {limits.ttl_s:g} s is over"
    if limits.idle_timeout_s is not None and now_s - last_used_s >= limits.idle_timeout_s:
        return f"nobody used it for {limits.idle_timeout_s:g} s"
    return None


def next_look_s(now_s: float, started_s: float, last_used_s: float, limits: Limits) -> float:
    """Seconds until the next look: at the nearest deadline, and at least every 5 s."""
    ends = [LONGEST_PAUSE_S]
    if limits.ttl_s is not None:
        ends.append(started_s + limits.ttl_s - now_s)
    if limits.idle_timeout_s is not None:
        ends.append(last_used_s + limits.idle_timeout_s - now_s)
    return max(0.1, min(ends))


def watch(plane: Plane, job_id: str) -> str:
    """Watch one service until it is to end, then stop it; what happened, in words."""
    activity = Activity(last_used_s=time.time())
    while True:
        entry = plane.registry.read(quarantine=False).services.get(job_id)
        if entry is None:
            return "the service is gone"
        if not _is_me(entry):
            return "another reaper watches it"
        launching = being_launched(entry)
        life = ask_platforms(plane, [entry])[job_id]
        if life.state == "exited" and not launching:
            return "the service is dead"
        entry = {**entry, **life.fields}
        limits = Limits(_seconds(entry.get("ttl_s")), _seconds(entry.get("idle_timeout_s")))
        if limits.idle_timeout_s is not None:
            activity = read_activity(plane, entry, activity, now_s=time.time())
        now_s, started_s = time.time(), started_at_s(entry)
        reason = reap_reason(now_s, started_s, activity.last_used_s, limits)
        if reason is not None:
            stop(plane, entry)
            return f"stopped: {reason}"
        time.sleep(next_look_s(now_s, started_s, activity.last_used_s, limits))


def main(job_id: str) -> None:
    """Run as a process of its own. A passing fault is written down and tried again; the service is never forgotten."""
    plane = Plane(os.environ)
    _await_own_entry(plane, job_id)
    while True:
        try:
            _say(watch(plane, job_id))
            return
        except MoorageError as fault:
            _say(f"{fault.code}: {fault.message}")
        time.sleep(LONGEST_PAUSE_S)


def _await_own_entry(plane: Plane, job_id: str) -> None:
    """The starter writes our identity into the entry just after it started us."""
    deadline = time.monotonic() + TAKE_OVER_S
    while time.monotonic() < deadline:
        entry = plane.registry.read(quarantine=False).services.get(job_id)
        if entry is None or _is_me(entry):
            return
        time.sleep(0.05)


def _is_me(entry: Entry) -> bool:
    return identity_from(entry.get("reaper")) == identity_of(os.getpid())


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1])
