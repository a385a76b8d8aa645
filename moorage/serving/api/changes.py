"""Telling those who wait that something changed: one thread asks the store, however many wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from moorage.serving.api.problems import Problem
from moorage.serving.log import Log

__all__ = ["MOST_WAITING", "Changes"]

LOOK_S = 0.25
"""Another process may change the store as well, and no event tells of that."""
MOST_WAITING = 1000


class Changes:
    """The store's version, as of a moment ago. `start` and `close` are for one thread, the rest for any."""

    def __init__(self, version: Callable[[], int], log: Log) -> None:
        """`version`: of the store; it grows."""
        self._ask = version
        self._log = log
        self._look_now = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[_Waiting] = set()
        self._thread: threading.Thread | None = None
        self.version = -1
        self.history = 0
        """Another one when the version went back: a backup of the store was put in its place."""
        self.is_answering = False
        """Whether the store answered the last time."""
        self.is_closed = False

    def start(self) -> None:
        """Look once, and then on and on. Raises the store's faults."""
        self.version, self.is_answering = self._ask(), True
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something changed just now."""
        self._look_now.set()

    def close(self) -> None:
        """Whoever waits is told that there is no more."""
        self.is_closed = True
        self._look_now.set()
        if self._thread is not None:
            self._thread.join()
        self._tell()

    def check_room(self) -> None:
        """Before a stream begins that will wait. Raises Problem 503 when too many wait already."""
        with self._lock:
            self._demand_room()

    async def beyond(self, version: int, within_s: float) -> bool:
        """True as soon as the store is at a later version; False after that time, or when there is no more.

        Raises Problem 503 when too many wait already.
        """
        waiting = _Waiting(asyncio.get_running_loop())
        with self._lock:
            self._demand_room()
            self._waiting.add(waiting)
        try:
            until = waiting.loop.time() + within_s
            while self.version <= version and not self.is_closed and waiting.loop.time() < until:
                await waiting.until_told(until)
        finally:
            with self._lock:
                self._waiting.discard(waiting)
        return self.version > version

    def _demand_room(self) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise Problem(503, "too many wait already", code="too_many_waiting", headers={"Retry-After": "5"})

    def _run(self) -> None:
        while not self.is_closed:
            self._look_now.wait(LOOK_S)
            self._look_now.clear()
            try:
                version = self._ask()
            except Exception as fault:
                if self.is_answering:
                    self._log.fault(fault, while_="looking for changes")
                self.is_answering = False
                continue
            self.is_answering = True
            if version != self.version:
                self.history += version < self.version
                self.version = version
                self._tell()

    def _tell(self) -> None:
        with self._lock:
            for waiting in self._waiting:
                waiting.tell()


class _Waiting:
    """One that waits, in an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._told = asyncio.Event()

    def tell(self) -> None:
        """From any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._told.set)

    async def until_told(self, until: float) -> None:
        """Or until that time of the loop."""
        try:
            async with asyncio.timeout_at(until):
                await self._told.wait()
        except TimeoutError:
            return
        self._told.clear()
