"""Who waits for what: subscribers for commits, trainers for a group, the sweeper for the next lease that runs out.

This process's commits wake them at once. Other processes write the same file without a word, so everybody also looks
by themselves a few times a second.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

from moorage.pool.sqlite import events
from moorage.pool.sqlite.readers import Readers
from moorage.pool.sqlite.writer import Committed

__all__ = ["Waiting"]

_LOOK_S = 0.25


class Waiting:
    """Belongs to one event loop."""

    def __init__(self, readers: Readers, clock: Callable[[], float]) -> None:
        self.commits = 0
        """How many this process made."""
        self._readers = readers
        self._clock = clock
        self._group_changes = 0
        self._deadline: float | None = None
        self._sleepers: set[asyncio.Future[None]] = set()
        self._looked: weakref.WeakKeyDictionary[asyncio.Task[object], int] = weakref.WeakKeyDictionary()

    def committed(self, committed: Committed) -> None:
        self.commits += 1
        self._group_changes += committed.group_changed
        if committed.looked_ahead:
            self._deadline = committed.deadline
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        self._sleepers.clear()

    def is_due(self, now: float) -> bool:
        return self._deadline is not None and self._deadline <= now

    def looks(self) -> None:
        """The running task asks for a group: what changes from now on ends its next wait."""
        task = asyncio.current_task()
        if task is not None:
            self._looked[task] = self._group_changes

    async def for_commit(self, seen: int) -> None:
        """Until there are other commits than `seen`, or another process may have made one."""
        if self.commits == seen:
            await self._sleep(_LOOK_S)

    async def for_group(self, timeout_s: float) -> None:
        """Until a group may have become ready since the running task asked for one, or the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        task = asyncio.current_task()
        seen = self._looked.pop(task, self._group_changes) if task is not None else self._group_changes
        latest = await self._readers.run(events.latest)
        while self._group_changes == seen and (left_s := end - loop.time()) > 0 and not self.is_due(self._clock()):
            await self._sleep(min(left_s, self._until_deadline_s()))
            if latest != await self._readers.run(events.latest):
                return

    async def for_deadline(self) -> None:
        """Until the next lease runs out or the next delay ends."""
        while not self.is_due(self._clock()):
            await self._sleep(None if self._deadline is None else max(0.0, self._deadline - self._clock()))

    def _until_deadline_s(self) -> float:
        if self._deadline is None:
            return _LOOK_S
        return min(_LOOK_S, max(0.0, self._deadline - self._clock()))

    async def _sleep(self, timeout_s: float | None) -> None:
        """Until the next commit of this process, or the time is over."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.add(sleeper)
        try:
            await asyncio.wait((sleeper,), timeout=timeout_s)
        finally:
            self._sleepers.discard(sleeper)
