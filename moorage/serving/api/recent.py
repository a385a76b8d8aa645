"""What changed just now, read once for all who watch: they all ask at the same moment, and for the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from moorage.serving.api.changes import Changes
from moorage.serving.model import Model
from moorage.serving.store.contract import Store

__all__ = ["Batch", "Recent"]

MOST_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """What changed between two versions of the store."""

    history: int
    now: int
    models: tuple[Model, ...]
    """Of all users."""
    told: dict[str, bytes] = field(default_factory=dict)
    """Keys of models → how they are told; filled by whoever is the first to tell. For one thread."""
    secrets: dict[str, bool] = field(default_factory=dict, repr=False)
    """Tokens that were looked at → whether they were good then."""


class Recent:
    """Threads share it."""

    def __init__(self, store: Store, changes: Changes, is_good: Callable[[str], bool]) -> None:
        """`is_good`: whether a token is, now."""
        self._store = store
        self._changes = changes
        self._is_good = is_good
        self._reading = threading.Lock()
        self._batches: dict[int, Batch] = {}
        """By the version that they begin after."""

    def at_hand(self, version: int, secret: str) -> Batch | None:
        """What changed after that version, if that is known and the token was looked at. Never waits."""
        batch = self._batches.get(version)
        return batch if batch is not None and self._is_fresh(batch) and secret in batch.secrets else None

    def read(self, version: int, secret: str) -> Batch:
        """The same, with the token looked at. Waits for the store and raises its faults, and `version_forgotten`."""
        with self._reading:
            batch = self._batches.get(version)
            if batch is None or not self._is_fresh(batch):
                history = self._changes.history
                batch = Batch(history, *self._store.changed_since(version, None))
                self._batches.pop(version, None)
                self._batches[version] = batch
                if len(self._batches) > MOST_BATCHES:
                    del self._batches[next(iter(self._batches))]
            if secret not in batch.secrets:
                batch.secrets[secret] = self._is_good(secret)
        return batch

    def _is_fresh(self, batch: Batch) -> bool:
        """Nothing is known to have changed after it."""
        return batch.history == self._changes.history and batch.now >= self._changes.version
