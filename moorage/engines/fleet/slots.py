"""How many requests may be under way at one endpoint; the rest wait in line."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Slots"]


class Slots:
    """Like a semaphore, first come first served, that also says how many there are and when all is quiet."""

    __slots__ = ("_line", "_quiet", "limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._quiet: list[asyncio.Future[None]] = []

    @property
    def busy(self) -> int:
        """Those that hold a slot, and those that wait for one."""
        return self.taken + len(self._line)

    def try_take(self) -> bool:
        """Take one if there is one and nobody waits."""
        if self.taken >= self.limit or self._line:
            return False
        self.taken += 1
        return True

    async def take(self) -> None:
        """Wait for one; cancellation leaves the line."""
        if self.try_take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give()  # it was handed over just then
            else:
                self._line.remove(turn)
            raise

    def give(self) -> None:
        """Give one back: the first in line has it."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1
        if self.taken == 0 and self._quiet:
            for waiter in self._quiet:
                if not waiter.done():
                    waiter.set_result(None)
            self._quiet.clear()

    async def wait_until_quiet(self) -> None:
        """Return when nobody holds one."""
        if self.taken == 0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._quiet.append(waiter)
        await waiter
