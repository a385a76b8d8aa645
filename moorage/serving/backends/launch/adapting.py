"""LoRA adapters of replicas: which are loaded where, and changing them without restarting anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from moorage.errors import FailedError, MoorageError, TryAgainError
from moorage.launch.entry import Entry
from moorage.launch.plane import Plane
from moorage.serving.backends.contract import Wanted
from moorage.serving.backends.launch.deciding import Life, Replica
from moorage.serving.backends.launch.jobs import Done, fit_adapters
from moorage.serving.backends.launch.told import Told
from moorage.serving.spec.spec import Adapter

__all__ = ["Adapting"]

LOADING = "loading its adapters"


class Adapting:
    """What is known of adapters between two looks. A replica counts as ready when it has had its adapters once."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._loaded: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Job id → (key, names)."""
        self._refused: dict[str, str] = {}
        """Job id → the key that its engine refused."""

    def judged(self, replica: Replica, told: Told, entry: Entry) -> Replica:
        """The same; one that answers and never had its adapters is still starting."""
        if replica.life is not Life.READY or not told.wanted.spec.lora:
            return replica
        if entry.get("ready_at") is not None or self._has(told, entry):
            return replica
        if told.was_ready and self._refused.get(entry["job_id"]) == self.key(told, entry):
            return replica  # it served with them before: better without than not at all
        return replace(replica, life=Life.STARTING, detail=LOADING)

    def is_due(self, replica: Replica, told: Told, entry: Entry) -> bool:
        """Whether a replica answers and has not the adapters that are wanted now."""
        answers = replica.life is Life.READY or replica.detail == LOADING
        if not answers or not told.wanted.spec.lora or self._has(told, entry):
            return False
        return self._refused.get(entry["job_id"]) != self.key(told, entry)

    def key(self, told: Told, entry: Entry) -> str:
        """Of these adapters in this start of a replica."""
        return _key(told.wanted.spec.lora, entry)

    def learn(self, done: Done) -> None:
        """An adaption has ended. What was refused is not tried again until the replica or its adapters change."""
        if done.fault is None:
            self._loaded[done.job_id] = (done.key, done.adapters)
        elif isinstance(done.fault, FailedError):
            self._refused[done.job_id] = done.key

    def names(self, told: Told, job_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Job id → what it has loaded; after a start of the control plane what it should have, until that is known."""
        wanted = tuple(adapter.name for adapter in told.wanted.spec.lora)
        unknown = {job_id: () if job_id in self._refused else wanted for job_id in job_ids}
        return {job_id: self._loaded[job_id][1] if job_id in self._loaded else unknown[job_id] for job_id in job_ids}

    def change(self, changes: Sequence[tuple[Told, Wanted]], entries: Mapping[str, Sequence[Entry]]) -> None:
        """Load and unload in replicas that serve. Raises FailedError when an engine refuses: then all are as before.

        A replica that does not answer now is seen to later.
        """
        undo: list[tuple[Entry, Sequence[Adapter]]] = []
        try:
            for told, wanted in changes:
                for entry in entries.get(wanted.app, ()):
                    serves = entry.get("ready_at") is not None or entry["job_id"] in self._loaded
                    if not serves or told.wanted.spec.lora == wanted.spec.lora:
                        continue
                    undo.append((entry, told.wanted.spec.lora))
                    with suppress(TryAgainError):
                        names = fit_adapters(self._plane, entry, wanted.spec.lora)
                        self._loaded[entry["job_id"]] = (_key(wanted.spec.lora, entry), names)
        except MoorageError:
            for entry, before in undo:
                self._loaded.pop(entry["job_id"], None)
                with suppress(MoorageError):
                    names = fit_adapters(self._plane, entry, before)
                    self._loaded[entry["job_id"]] = (_key(before, entry), names)
            raise

    def forget(self, living: Mapping[str, object]) -> None:
        """Replicas that are no more."""
        for job_id in [job_id for job_id in (*self._loaded, *self._refused) if job_id not in living]:
            self._loaded.pop(job_id, None)
            self._refused.pop(job_id, None)

    def _has(self, told: Told, entry: Entry) -> bool:
        return entry["job_id"] in self._loaded and self._loaded[entry["job_id"]][0] == self.key(told, entry)


def _key(adapters: Sequence[Adapter], entry: Entry) -> str:
    parts = [entry.get("started_at"), [[adapter.name, adapter.source] for adapter in adapters]]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]
