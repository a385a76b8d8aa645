"""What is done to one replica, each in a thread of its own: start, end, note that it is ready, load adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from moorage.errors import FailedError, MoorageError
from moorage.launch.adapters import load_adapter, loaded_adapters, unload_adapter
from moorage.launch.entry import Entry
from moorage.launch.plan import StartRequest
from moorage.launch.plane import Plane
from moorage.launch.recover import recover
from moorage.launch.redact import redact
from moorage.launch.start import start, wait_for
from moorage.launch.stop import stop
from moorage.serving.spec.spec import Adapter

__all__ = ["Deed", "Done", "Jobs", "fit_adapters", "tail_of", "tell_nobody"]

AT_ONCE = 8
TAIL_LINES = 200
"""An engine's own trace of what it died of is long."""
RUNS_ALREADY = frozenset({"name_taken", "job_id_taken"})
"""Codes of a start that met its own service: it runs, and only the registry did not know."""


class Deed(StrEnum):
    """What a job does."""

    START = "start"
    END = "end"
    NOTE = "note"
    ADAPT = "adapt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A job that has ended."""

    deed: Deed
    app: str
    job_id: str
    slot: int
    fault: MoorageError | None = None
    tail: tuple[str, ...] = ()
    """Of an end: the last lines of what died."""
    detail: str = ""
    """Of an end: what it died of; "" when it was ended because nobody wants it."""
    adapters: tuple[str, ...] = ()
    """Of an adaption: what is loaded now."""
    key: str = ""
    """Of an adaption: what was to be loaded, and into which start."""


@dataclass(frozen=True, slots=True)
class _Running:
    deed: Deed
    app: str
    slot: int
    future: Future[Done]


class Jobs:
    """Those that run, one a replica at a time."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="launch-backend")
        self._running: dict[str, _Running] = {}

    def running(self) -> Mapping[str, tuple[Deed, str, int]]:
        """Job id → what is being done, for which application and slot."""
        return {job_id: (one.deed, one.app, one.slot) for job_id, one in self._running.items()}

    def harvest(self) -> list[Done]:
        """Those that have ended since."""
        ended = [job_id for job_id, one in self._running.items() if one.future.done()]
        return [self._running.pop(job_id).future.result() for job_id in ended]

    def start(self, app: str, slot: int, job_id: str, request: StartRequest) -> None:
        """Start a replica; one that runs already, which the registry does not know, is recorded again."""
        self._submit(Deed.START, app, slot, job_id, lambda: _start(self._plane, request))

    def end(self, app: str, slot: int, entry: Entry, *, why: str) -> None:
        """End it and clear what is left of it. `why`: what it died of; "" when it lives and is not wanted."""

        def run() -> dict[str, Any]:
            tail = tail_of(self._plane, entry) if why else ()
            stop(self._plane, entry)
            return {"tail": tail, "detail": why}

        self._submit(Deed.END, app, slot, entry["job_id"], run)

    def note_ready(self, app: str, slot: int, entry: Entry) -> None:
        """Have the registry say that it is ready, as after any start."""

        def run() -> dict[str, Any]:
            wait_for(self._plane, entry, 5.0, tell_nobody)
            return {}

        self._submit(Deed.NOTE, app, slot, entry["job_id"], run)

    def adapt(self, app: str, slot: int, entry: Entry, adapters: Sequence[Adapter], key: str) -> None:
        """Have exactly these adapters loaded."""

        def run() -> dict[str, Any]:
            return {"adapters": fit_adapters(self._plane, entry, adapters), "key": key}

        self._submit(Deed.ADAPT, app, slot, entry["job_id"], run, key=key)

    def close(self) -> None:
        """Let what runs come to its end: a start that was cut off would have to be cleared later."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, deed: Deed, app: str, slot: int, job_id: str, work: Callable[[], dict[str, Any]], key: str = ""
    ) -> None:
        def run() -> Done:
            fault: MoorageError
            try:
                return Done(deed=deed, app=app, job_id=job_id, slot=slot, **work())
            except MoorageError as known:
                fault = known
            except Exception as unknown:  # a bug, which must not stop the others
                fault = FailedError(f"unexpected {type(unknown).__name__}: {unknown}", code="internal")
            return Done(deed=deed, app=app, job_id=job_id, slot=slot, fault=fault, key=key)

        self._running[job_id] = _Running(deed, app, slot, self._pool.submit(run))


def fit_adapters(plane: Plane, entry: Entry, adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """Load and unload until a service has exactly these; their names. Raises FailedError `adapter_refused`: then
    those before the refused one are loaded."""
    wanted = {adapter.name: adapter.source for adapter in adapters}
    found = loaded_adapters(entry, plane.environ)
    for name in found:
        if name not in wanted:
            unload_adapter(entry, plane.environ, name)
    for name, source in wanted.items():
        if found.get(name) != source:
            load_adapter(entry, plane.environ, name, source)
    return tuple(wanted)


def tail_of(plane: Plane, entry: Entry, lines: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a service without the values of secrets; () when they cannot be had."""
    try:
        found = plane.platform(str(entry.get("platform"))).logs(entry, tail=lines, follow=False)
        return tuple(redact(found, plane.secrets()))
    except MoorageError:
        return ()


def tell_nobody(phase: str, message: str, **numbers: float) -> None:
    """A report that goes nowhere: how a replica is, is told by looking at it."""


def _start(plane: Plane, request: StartRequest) -> dict[str, Any]:
    try:
        start(plane, request, tell_nobody)
    except MoorageError as fault:
        if fault.code not in RUNS_ALREADY:
            raise
        recover(plane, request.platform, tell_nobody)
    return {}
