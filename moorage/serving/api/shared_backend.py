"""One backend for the reconciler and for those who ask the API about it: one call at a time, and what was last seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from moorage.errors import TryAgainError
from moorage.serving.backends.contract import Backend, Seen, Wanted

__all__ = ["FRESH_S", "LastSeen", "SharedBackend"]

FRESH_S = 30.0
"""What was seen longer ago says nothing any more: another process may lead now."""
ASK_WITHIN_S = 10.0
"""How long a request waits for its turn."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """Of one `observe`."""

    apps: Mapping[str, Seen]
    at: float
    """Of the clock."""


class SharedBackend:
    """A Backend. The reconciler waits for its turn as long as it takes; requests do not."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self._backend = backend
        self._clock = clock
        self._turn = threading.Lock()
        self._last: LastSeen | None = None
        self.name = backend.name
        self.has_lora = backend.has_lora
        self.has_autoscaling = backend.has_autoscaling

    def digest(self, wanted: Wanted) -> str:
        return self._backend.digest(wanted)

    def observe(self) -> Mapping[str, Seen]:
        with self._turn:
            apps = self._backend.observe()
        self._last = LastSeen(apps, self._clock())
        return apps

    def apply(self, wanted: Sequence[Wanted]) -> None:
        with self._turn:
            self._backend.apply(wanted)

    def logs(self, app: str, lines: int) -> Iterator[str]:
        """Read whole, so that nobody keeps the turn who reads slowly."""
        with self._soon():
            yield from list(self._backend.logs(app, lines))

    def summary(self) -> dict[str, Any]:
        with self._soon():
            return self._backend.summary()

    def close(self) -> None:
        with self._turn:
            self._backend.close()

    def last_seen(self) -> LastSeen | None:
        """None: this process has not looked lately."""
        last = self._last
        return last if last is not None and self._clock() - last.at <= FRESH_S else None

    @contextmanager
    def _soon(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=ASK_WITHIN_S):
            raise TryAgainError("the backend is busy with what was asked before", code="backend_busy")
        try:
            yield
        finally:
            self._turn.release()
