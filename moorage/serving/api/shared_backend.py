"""One backend for the reconciler and for those who ask the API about it: one call at a time, and what was last seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from moorage.errors import TryAgainError
from moorage.launch.redact import redact
from moorage.serving.backends.contract import Backend, Seen, Wanted

__all__ = ["FRESH_S", "LastSeen", "SharedBackend"]

FRESH_S = 30.0
"""What was seen longer ago says nothing any more: another process may lead now."""
ASK_WITHIN_S = 10.0
"""How long a request waits for its turn."""
READ_WITHIN_S = 3.0
"""Reading logs ends after the replica during which that is over: everybody else waits meanwhile."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """Of one `observe`."""

    apps: Mapping[str, Seen]
    at: float
    """Of the clock."""


class SharedBackend:
    """A Backend. The reconciler waits for its turn as long as it takes; requests do not."""

    def __init__(
        self,
        backend: Backend,
        clock: Callable[[], float],
        *,
        secrets: Mapping[str, str] | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: Unix seconds; `steady`: seconds that never jump. `secrets`: name → value of what must not be read
        in any log, nor in what is said of an application."""
        self._backend = backend
        self._clock = clock
        self._secrets = dict(secrets or {})
        self._steady = steady
        self._turn = threading.Lock()
        self._last: LastSeen | None = None
        self.name = backend.name
        self.has_lora = backend.has_lora
        self.has_autoscaling = backend.has_autoscaling

    def digest(self, wanted: Wanted) -> str:
        return self._backend.digest(wanted)

    def observe(self) -> Mapping[str, Seen]:
        with self._turn:
            apps = {name: self._redacted(seen) for name, seen in self._backend.observe().items()}
        self._last = LastSeen(apps, self._clock())
        return apps

    def apply(self, wanted: Sequence[Wanted]) -> None:
        with self._turn:
            self._backend.apply(wanted)

    def logs(self, app: str, lines: int) -> Iterator[str]:
        """Read whole, so that nobody keeps the turn who reads slowly, and without the values of secrets."""
        with self._soon():
            read = self._read(app, lines)
        yield from redact(read, self._secrets)

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

    def _redacted(self, seen: Seen) -> Seen:
        """What is said of an application may be the last line of its log."""
        return replace(seen, message="".join(redact([seen.message], self._secrets))) if seen.message else seen

    def _read(self, app: str, lines: int) -> list[str]:
        """Of as many replicas as can be read in time."""
        until = self._steady() + READ_WITHIN_S
        read: list[str] = []
        replica = ""
        for line in self._backend.logs(app, lines):
            of = line.partition(" ")[0]
            if of != replica and read and self._steady() >= until:
                break
            replica = of
            read.append(line)
        return read

    @contextmanager
    def _soon(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=ASK_WITHIN_S):
            raise TryAgainError("the backend is busy with what was asked before", code="backend_busy")
        try:
            yield
        finally:
            self._turn.release()
