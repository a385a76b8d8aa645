"""Which replicas there are, and how each of them is: asked of the launch plane, judged with what was seen before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moorage.errors import ConflictError, MoorageError
from moorage.launch.entry import Entry
from moorage.launch.observe import Observed, observe
from moorage.launch.plane import Plane
from moorage.launch.platforms import NEAR_PLATFORMS
from moorage.launch.probe import base_url
from moorage.serving.backends.contract import BackendUnreachable
from moorage.serving.backends.launch.deciding import Life, Replica

__all__ = ["Patience", "Sight", "Watched", "labels_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds and counts before a replica is given up."""

    misses: int = 3
    """So many looks in a row without an answer, and a ready replica gets no requests."""
    silent_s: float = 120.0
    """A replica that was ready and has not answered for so long is started anew."""
    starting_s: float = 3600.0
    """One that was never ready for so long is."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One replica with its entry."""

    app: str
    replica: Replica
    entry: Entry


class Watched:
    """What is remembered of replicas between two looks; nothing that a new start cannot do without."""

    def __init__(self, plane: Plane, scope: str, patience: Patience) -> None:
        self._plane = plane
        self._scope = scope
        self._patience = patience
        self._last_answer: dict[tuple[str, str], float] = {}
        """(job id, its start) → when it answered last."""
        self._misses: dict[tuple[str, str], int] = {}
        self._first_seen: dict[tuple[str, str], float] = {}

    def entries(self) -> dict[str, Entry]:
        """Those of this control plane, by job id. Raises BackendUnreachable when the registry cannot be read."""
        try:
            services = self._plane.registry.read().services
        except MoorageError as fault:
            raise BackendUnreachable(fault.message, hint=fault.hint, next=fault.next) from fault
        return {job_id: entry for job_id, entry in services.items() if labels_of(entry).get("scope") == self._scope}

    def look(self, now: float) -> list[Sight]:
        """Every replica; `now` in seconds of a clock that is never set.

        Raises BackendUnreachable when the platform of all of them does not answer.
        """
        entries = self.entries()
        seen = observe(self._plane, entries.values())
        unknown = [one.reason for one in seen.values() if one.state == "unknown"]
        if unknown and len(unknown) == len(seen):
            raise BackendUnreachable(f"no replica's state can be told: {unknown[0]}")
        self._forget(entries.values())
        return [self._sight(entry, seen[job_id], now) for job_id, entry in entries.items()]

    def _sight(self, entry: Entry, observed: Observed, now: float) -> Sight:
        entry = {**entry, **observed.fields}
        labels = labels_of(entry)
        life, detail = self._life(entry, observed, now)
        slot = labels.get("slot")
        gpus = labels.get("gpus")
        replica = Replica(
            job_id=entry["job_id"],
            slot=slot if isinstance(slot, int) else 0,
            life=life,
            current=False,
            detail=detail,
            endpoint=_endpoint(entry),
            key_env=entry.get("token_env") or None,
            gpus=tuple(map(str, gpus)) if isinstance(gpus, list) else (),
        )
        return Sight(str(labels.get("app")), replica, entry)

    def _life(self, entry: Entry, observed: Observed, now: float) -> tuple[Life, str]:
        key = _key(entry)
        reason = observed.reason or ""
        if observed.dead or entry.get("stop_requested_at"):
            return Life.DEAD, reason or observed.state
        if observed.state == "ready":
            self._last_answer[key] = now
            self._misses.pop(key, None)
            return Life.READY, ""
        was_ready = key in self._last_answer or entry.get("ready_at") is not None
        since = self._last_answer.setdefault(key, now) if was_ready else self._first_seen.setdefault(key, now)
        if observed.state == "unknown":
            return (Life.READY if was_ready else Life.STARTING), reason
        if not was_ready:
            limit = self._patience.starting_s
            return (Life.DEAD, f"not ready within {limit:g} s") if now - since > limit else (Life.STARTING, reason)
        self._misses[key] = self._misses.get(key, 0) + 1
        if now - since > self._patience.silent_s:
            return Life.DEAD, f"it has not answered for {self._patience.silent_s:g} s"
        return (Life.READY, "") if self._misses[key] < self._patience.misses else (Life.SILENT, reason)

    def _forget(self, entries: Iterable[Entry]) -> None:
        keys = {_key(entry) for entry in entries}
        for gone in (self._last_answer.keys() | self._misses.keys() | self._first_seen.keys()) - keys:
            self._last_answer.pop(gone, None)
            self._misses.pop(gone, None)
            self._first_seen.pop(gone, None)


def labels_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the starter wrote beside its services; {} for services of others."""
    labels = entry.get("labels")
    return labels if isinstance(labels, dict) else {}


def _key(entry: Mapping[str, Any]) -> tuple[str, str]:
    return str(entry["job_id"]), str(entry.get("started_at"))


def _endpoint(entry: Entry) -> str | None:
    if not entry.get("host_url"):
        return None
    try:
        url = base_url(entry)
    except ConflictError:
        return None
    if entry.get("platform") in NEAR_PLATFORMS:
        url = url.replace("//localhost", "//127.0.0.1", 1)  # they listen there, and on no other address of that name
    return f"{url}/v1"
