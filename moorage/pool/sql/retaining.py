"""Letting old trajectories go, piece by piece beside everything else: found by readers, removed by the writer.

Each transaction is small, and after each there is a pause four times as long, so that whoever commits meets few of
them. Only one of a process goes through it at a time; of several processes each looks again before it removes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from moorage.pool.contract import Retained, Retention
from moorage.pool.retention import Unit, check_retention, choose, horizon, summed
from moorage.pool.sql import leaving, tallies, uses
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.transaction import Transaction

__all__ = ["Read", "Retainer", "Write", "plan"]

T = TypeVar("T")

_FOLD_CALLS = 2000
_NAME_CALLS = 200
_LOOK_ROWS = 200
_MOST_UNITS = 50_000
"""Rounds, and trajectories in none, that one run lets go: they are held in memory meanwhile."""
_UNITS = 4
_CALLS = 48
_FREE_PAGES = 32
_REST = 4.0
"""Pauses are so many times as long as what came before."""
_SHORTEST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.25
_ROUNDS_OF_BLOBS = 1000


class Read(Protocol):
    """Runs a read in a transaction of its own."""

    async def __call__(self, read: Callable[[Connection], T], /) -> T: ...


class Write(Protocol):
    """Runs an operation in the next commit; its result, once that is durable."""

    def __call__(self, operation: Callable[[Transaction], Any], /) -> Awaitable[Any]: ...


class Retainer:
    """Of one store."""

    def __init__(
        self,
        read: Read,
        write: Write,
        *,
        clock: Callable[[], float],
        free: Callable[[Transaction, int], int],
    ) -> None:
        """`free(transaction, pages)` gives pages back to the file system: bytes, 0: there are no more."""
        self._read = read
        self._write = write
        self._clock = clock
        self._free = free
        self._one = asyncio.Lock()
        self._folding = asyncio.Lock()

    async def fold(self) -> None:
        """Count the calls that are not counted yet."""
        async with self._folding:
            while True:
                counted = await self._read(lambda db: tallies.count_new(db, _FOLD_CALLS))
                if counted.upto > counted.after:
                    await self._write(partial(_fold, counted=counted))
                if not counted.more:
                    return

    async def retain(self, ask: Retention, *, dry_run: bool) -> Retained:
        """As `moorage.pool.contract.Store.retain`."""
        check_retention(ask)
        async with self._one:
            if not dry_run:
                await self.clean_up()
            await self.fold()
            now = self._clock()
            chosen, content_bytes = await _planned(self._read, ask, now)
            if dry_run:
                return summed(chosen, content_bytes)
            gone = await self._remove(ask, now, chosen)
            blobs = await self._drop_blobs() if gone else 0
            freed = await self._give_back()
            retained = summed(gone, content_bytes)
            content_bytes = await self._read(tallies.content_bytes)
            return msgspec.structs.replace(retained, blobs=blobs, freed_bytes=freed, content_bytes=content_bytes)

    async def clean_up(self) -> None:
        """Finish what was cut off."""
        while await self._gently(lambda transaction: leaving.clear(transaction, _CALLS)):
            pass

    async def _remove(self, ask: Retention, now: float, chosen: list[tuple[Unit, int]]) -> list[tuple[Unit, int]]:
        if not chosen:
            return []
        await self._name()
        until = horizon(ask, _HUGE, now) or now
        gone: list[tuple[Unit, int]] = []
        for some in _portions(chosen):
            sizes = {unit: size for unit, size in some}
            units = list(sizes)
            went = await self._gently(partial(leaving.detach, units=units, ask=ask, until=until))
            gone += [(unit, sizes[unit]) for unit in went]
        await self.clean_up()
        return gone

    async def _name(self) -> None:
        while True:
            began = time.perf_counter()
            named = await self._read(lambda db: uses.new_uses(db, _NAME_CALLS))
            await _rest(time.perf_counter() - began)
            if named.upto > named.after:
                await self._gently(partial(uses.name_uses, named=named))
            if not named.more:
                return

    async def _drop_blobs(self) -> int:
        gone = 0
        for _ in range(_ROUNDS_OF_BLOBS):
            await self._name()
            done = await self._gently(uses.drop_loose)
            if done is not None:
                looked, went = done
                gone += went
                if not looked:
                    break
        return gone

    async def _give_back(self) -> int:
        freed = 0
        while some := await self._gently(lambda transaction: self._free(transaction, _FREE_PAGES)):
            freed += some
        return freed

    async def _gently(self, operation: Callable[[Transaction], Any]) -> Any:
        """What it took is its own time, not what it waited for its turn."""
        took_s = 0.0

        def timed(transaction: Transaction) -> Any:
            nonlocal took_s
            began = time.perf_counter()
            try:
                return operation(transaction)
            finally:
                took_s = time.perf_counter() - began

        result = await self._write(timed)
        await _rest(took_s)
        return result


async def _rest(took_s: float) -> None:
    await asyncio.sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, _REST * took_s)))


async def plan(read: Read, ask: Retention, now: float) -> Retained:
    """What would go, for those who only read."""
    check_retention(ask)
    return summed(*await _planned(read, ask, now))


_HUGE = 1 << 62


async def _planned(read: Read, ask: Retention, now: float) -> tuple[list[tuple[Unit, int]], int]:
    """What goes, and what there is."""
    content_bytes = await read(tallies.content_bytes)
    until = horizon(ask, content_bytes, now)
    units: list[Unit] = []
    if until is None:
        return [], content_bytes
    for find in (leaving.rounds, leaving.alone):
        after: int | None = 0
        while after is not None:
            some, after = await read(
                lambda db, find=find, after=after: find(db, ask, until, after, _LOOK_ROWS)  # type: ignore[misc]
            )
            units += some
            if len(units) > 2 * _MOST_UNITS:
                units = _oldest(units)
    units = _oldest(units)
    return await _sized(read, ask, units, content_bytes, now), content_bytes


def _oldest(units: list[Unit]) -> list[Unit]:
    """As many as go at once, in the order in which they go."""
    units.sort(key=lambda unit: (unit.touched_at, unit.members[0].number if unit.members else 0))
    return units[:_MOST_UNITS]


async def _sized(
    read: Read, ask: Retention, units: list[Unit], content_bytes: int, now: float
) -> list[tuple[Unit, int]]:
    """Those that go, with their bytes, which are looked up for no more than those."""
    gone: list[tuple[Unit, int]] = []
    for start in range(0, len(units), _LOOK_ROWS):
        some = units[start : start + _LOOK_ROWS]
        sizes = await read(lambda db, some=some: [leaving.size_of(db, unit) for unit in some])  # type: ignore[misc]
        chosen = choose(ask, zip(some, sizes, strict=True), content_bytes, now)
        gone += chosen
        content_bytes -= sum(size for _, size in chosen)
        if len(chosen) < len(some):
            break
    return gone


def _portions(chosen: list[tuple[Unit, int]]) -> Iterator[list[tuple[Unit, int]]]:
    """Few enough trajectories for one transaction."""
    some: list[tuple[Unit, int]] = []
    for unit, size in chosen:
        some.append((unit, size))
        if sum(max(1, len(one.members)) for one, _ in some) >= _UNITS:
            yield some
            some = []
    if some:
        yield some


def _fold(transaction: Transaction, counted: tallies.Counted) -> bool:
    return tallies.fold(transaction.db, counted, transaction.tallies)
