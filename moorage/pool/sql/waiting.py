"""Who waits for what: subscribers for commits, trainers for a group, the sweeper for the next lease that runs out.

This process's commits wake them at once. Other processes write the same database without a word, so while anybody waits
one look a fifth of a second is taken, for all of them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

from moorage.errors import MoorageError
from moorage.pool.sql.writing import Committed

__all__ = ["Waiting"]

_LOOK_S = 0.2
_LONGEST_S = 60.0


class Waiting:
    """Belongs to one event loop."""

    def __init__(self, latest: Callable[[], Awaitable[int]], clock: Callable[[], float]) -> None:
        """`latest`: the latest event there is."""
        self.commits = 0
        """How many were seen, of this process and of others."""
        self._latest = latest
        self._clock = clock
        self._group_changes = 0
        self._deadline: float | None = None
        self._seen: int | None = None
        """The latest event as this process knows it."""
        self._others_wrote = False
        """A commit of this process came after one of others that nobody was woken for."""
        self._sleepers: set[asyncio.Future[None]] = set()
        self._sweepers: set[asyncio.Future[None]] = set()
        self._looked: weakref.WeakKeyDictionary[asyncio.Task[object], int] = weakref.WeakKeyDictionary()
        self._watchers = 0
        self._watch: asyncio.Task[None] | None = None

    def committed(self, committed: Committed) -> None:
        self._group_changes += committed.group_changed
        self._seen = committed.number
        self._others_wrote |= committed.others_wrote
        if committed.looked_ahead:
            self._deadline = committed.deadline
            _wake(self._sweepers)
        self.commits += 1
        _wake(self._sleepers)

    def is_due(self, now: float) -> bool:
        return self._deadline is not None and self._deadline <= now

    def looks(self) -> None:
        """The running task asks for a group: what changes from now on ends its next wait."""
        task = asyncio.current_task()
        if task is not None:
            self._looked[task] = self._group_changes

    async def for_commit(self, seen: int) -> None:
        """Until there are other commits than `seen`."""
        while self.commits == seen:
            await self._watching(None)

    async def for_group(self, timeout_s: float) -> None:
        """Until a group may have become ready since the running task asked for one, or the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        task = asyncio.current_task()
        seen = self._looked.pop(task, self._group_changes) if task is not None else self._group_changes
        while self._group_changes == seen and (left_s := end - loop.time()) > 0 and not self.is_due(self._clock()):
            await self._watching(min(left_s, self._until_deadline_s()))

    async def for_deadline(self) -> None:
        """Until the next lease runs out or the next delay ends."""
        while not self.is_due(self._clock()):
            await _sleep(self._sweepers, self._until_deadline_s())

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    def _until_deadline_s(self) -> float:
        """At most a minute, for the clock may be set meanwhile."""
        return _LONGEST_S if self._deadline is None else min(_LONGEST_S, max(0.0, self._deadline - self._clock()))

    async def _watching(self, timeout_s: float | None) -> None:
        """Until the next commit of any process, or the time is over."""
        self._watchers += 1
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_at_others())
        try:
            await _sleep(self._sleepers, timeout_s)
        finally:
            self._watchers -= 1

    async def _look_at_others(self) -> None:
        """As long as anybody waits."""
        while self._watchers:
            before = self._seen
            with suppress(MoorageError):
                latest = await self._latest()
                # A commit of this process meanwhile has woken everybody, and said whether others wrote.
                if self._others_wrote or (self._seen == before and latest != before):
                    self._seen = max(latest, self._seen or 0)
                    self._others_wrote = False
                    self._group_changes += 1
                    self.commits += 1
                    _wake(self._sleepers)
            await asyncio.sleep(_LOOK_S)
        self._watch = None


async def _sleep(among: set[asyncio.Future[None]], timeout_s: float | None) -> None:
    sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    among.add(sleeper)
    try:
        await asyncio.wait((sleeper,), timeout=timeout_s)
    finally:
        among.discard(sleeper)


def _wake(sleepers: set[asyncio.Future[None]]) -> None:
    for sleeper in sleepers:
        if not sleeper.done():
            sleeper.set_result(None)
    sleepers.clear()
