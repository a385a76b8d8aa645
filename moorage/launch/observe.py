"""What services are doing now: asked of the platforms and the servers, never read from the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moorage.errors import MoorageError
from moorage.launch.entry import DEAD_STATES, Entry
from moorage.launch.plane import Plane
from moorage.launch.platforms import PLATFORMS
from moorage.launch.platforms.life import Life
from moorage.launch.processes import identity_from, is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROBE_TIMEOUT_S = 2.0
PROBES_AT_ONCE = 16


class Observed:
    """One service, now."""

    __slots__ = ("fields", "reason", "state")

    def __init__(self, state: str, reason: str | None = None, fields: Mapping[str, Any] | None = None) -> None:
        self.state = state
        """`starting`, `ready`, `failed`, `exited` or `unknown`"""
        self.reason = reason
        """The server's reason while it is not ready, else the platform's word. None when there is nothing to say."""
        self.fields = fields or {}
        """Fields of the entry as the platform tells them now."""

    @property
    def dead(self) -> bool:
        """Whether it has ended, or never will be ready."""
        return self.state in DEAD_STATES


def observe(plane: Plane, entries: Iterable[Entry], *, probe: bool = True) -> dict[str, Observed]:
    """`job_id` → what it does now. With `probe=False` living services are told as they were last seen.

    One cheap call per platform in use, then one short request to each living service, all at once.
    """
    entries = list(entries)
    launching = {entry["job_id"] for entry in entries if being_launched(entry)}
    lives = ask_platforms(plane, entries)
    seen = {}
    for entry in entries:
        job_id = entry["job_id"]
        seen[job_id] = _from_life(entry, lives[job_id], launching=job_id in launching)
    living = [entry for entry in entries if _may_answer(lives[entry["job_id"]])] if probe else []
    if living:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(PROBES_AT_ONCE, len(living))) as pool:
            answers = pool.map(lambda entry: _ask_server(plane, entry, lives[entry["job_id"]]), living)
            seen.update(zip((entry["job_id"] for entry in living), answers, strict=True))
    return seen


def as_seen(entry: Entry, observed: Observed) -> Entry:
    """The entry with the state it has now."""
    return {**entry, **observed.fields, "state": observed.state, "reason": observed.reason}


def being_launched(entry: Entry) -> bool:
    """Whether a command is launching it just now, so that no platform need know it yet.

    To be asked before the platform is: the command may launch it and end while the platform answers.
    """
    starter = identity_from(entry.get("starter"))
    return entry.get("state") == "starting" and starter is not None and is_alive(starter)


def ask_platforms(plane: Plane, entries: list[Entry]) -> dict[str, Life]:
    """`job_id` → life, by one call for each platform in use. Tunnels that were lost are started again."""
    by_platform: dict[str, list[Entry]] = {}
    for entry in entries:
        by_platform.setdefault(str(entry.get("platform")), []).append(entry)
    lives: dict[str, Life] = {}
    for name, group in by_platform.items():
        if name in PLATFORMS:
            lives.update(plane.platform(name).status(group))
            _mend(plane, group, lives)
        else:
            lives.update({entry["job_id"]: Life(state="unknown", detail=f"no platform {name!r}") for entry in group})
    return lives


def _mend(plane: Plane, entries: Iterable[Entry], lives: dict[str, Life]) -> None:
    lost = [entry for entry in entries if lives[entry["job_id"]].lost_tunnel is not None]
    if lost:
        from moorage.launch.mending import mend

        lives.update({entry["job_id"]: mend(plane, entry, lives[entry["job_id"]]) for entry in lost})


def _from_life(entry: Entry, life: Life, *, launching: bool) -> Observed:
    if life.state == "alive" and life.outlook == "failed":
        return Observed("failed", life.detail, life.fields)
    if life.state == "alive":
        return Observed("ready" if entry.get("state") in ("ready", None) else "starting", fields=life.fields)
    if life.state == "unknown":
        return Observed("unknown", life.detail, life.fields)
    if not life.exists and launching:
        return Observed("starting", "being launched")
    if not life.exists and entry.get("state") == "starting" and identity_from(entry.get("starter")) is not None:
        return Observed("failed", "its start was cut off before it was launched")
    return Observed("exited", life.detail, life.fields)


def _may_answer(life: Life) -> bool:
    return life.state == "alive" and life.outlook != "failed"


def _ask_server(plane: Plane, entry: Entry, life: Life) -> Observed:
    from moorage.launch.probe import contract_of, fetcher, probe
    from moorage.launch.readiness import SILENCE

    entry = {**entry, **life.fields}
    try:
        contract = contract_of(entry, plane.catalog)
        verdict = probe(entry, contract, fetch=fetcher(entry, plane.environ), timeout_s=PROBE_TIMEOUT_S)
    except MoorageError as fault:
        return Observed("unknown", fault.message, life.fields)
    state = {"ready": "ready", "fatal": "failed"}.get(verdict.state, "starting")
    if verdict.reason not in SILENCE:
        return Observed(state, verdict.reason, life.fields)
    cut = _broken_tunnel(entry)
    if cut is not None:
        return Observed("unknown" if entry.get("state") == "ready" else state, cut, life.fields)
    return Observed(state, life.detail or verdict.reason, life.fields)


def _broken_tunnel(entry: Entry) -> str | None:
    """Why nothing can come through the tunnel; None when there is none, or it is well."""
    tunnel = entry.get("tunnel")
    if not isinstance(tunnel, dict) or tunnel.get("state") != "broken":
        return None
    return f"its tunnel is broken: {tunnel.get('detail') or 'no reason known'}"
