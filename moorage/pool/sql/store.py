"""The store's face: what the gateway awaits, whichever database is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from moorage.capture.call import Call, Draft
from moorage.pool.contract import (
    Appended,
    Change,
    Event,
    Key,
    Kind,
    Lease,
    LeaseAsk,
    NewTrajectory,
    Page,
    Retained,
    Retention,
    Submitted,
    SubmittedStep,
    Trajectory,
)
from moorage.pool.faults import StoreFault
from moorage.pool.sql import events, leasing, pages, reading, sharing, trajectories
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.marking import mark
from moorage.pool.sql.retaining import Retainer
from moorage.pool.sql.rewarding import reward_step
from moorage.pool.sql.steps import leased
from moorage.pool.sql.submitting import submit
from moorage.pool.sql.trajectories import Kept
from moorage.pool.sql.transaction import Transaction
from moorage.pool.sql.waiting import Waiting
from moorage.pool.sql.writing import Committer, Writing

__all__ = ["Reads", "SqlStore"]

_EVENTS = 500
_GATHER_S = 0.02
_RETRY_S = 1.0
_KEEP_UP_S = 5.0
"""Between two counts of new calls: whoever asks for them meanwhile counts at most so many seconds' worth."""

Result = TypeVar("Result")


class Reads(Protocol):
    """Runs reads away from the event loop. A read sees everything that was answered before it was asked."""

    async def run(self, read: Callable[[Connection], Result]) -> Result:
        """In one transaction. Raises StoreFault when the database cannot be read."""

    def close(self) -> None:
        """Blocks until the last read is over."""


class SqlStore:
    """`moorage.pool.contract.Store` over a database; a subclass makes the parts, opens them and gives `stamp`."""

    def __init__(
        self,
        committer: Committer,
        reads: Reads,
        *,
        clock: Callable[[], float],
        free_pages: Callable[[Transaction, int], int] | None = None,
    ) -> None:
        """`clock` gives Unix seconds. `free_pages(transaction, pages)` gives empty ones back to the file system.

        It says how many bytes, 0 when there are no more. None: the database sees to it by itself.
        """
        self._clock = clock
        self._reads = reads
        self._waiting = Waiting(lambda: reads.run(events.latest), clock)
        self._writing = Writing(committer, self._waiting.committed)
        self.meter = self._writing.meter
        self._retainer = Retainer(reads.run, self._writing.run, clock=clock, free=free_pages or _free_none)
        self._sweeper: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to take writes, of an open database. Raises StoreFault when it cannot be written; it is closed then."""
        self._writing.start()
        try:
            await self._writing.run(_sweep)
        except StoreFault:
            await self.close()
            raise
        self._sweeper = asyncio.create_task(self._sweep_when_due())
        self._keeper = asyncio.create_task(self._keep_up())

    async def close(self) -> None:
        for task in (self._sweeper, self._keeper):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._sweeper = self._keeper = None
        await self._waiting.close()
        await self._writing.close()
        await asyncio.to_thread(self._reads.close)

    async def create(self, new: NewTrajectory) -> Trajectory:
        return await self._row(lambda transaction: trajectories.create(transaction, new))

    async def find(self, uid: str) -> Trajectory | None:
        return await self._reads.run(lambda db: reading.trajectory(db, uid))

    async def change(self, uid: str, change: Change) -> Trajectory:
        return await self._row(lambda transaction: trajectories.change(transaction, uid, change))

    async def append(self, uid: str, drafts: Sequence[Draft], blobs: Mapping[bytes, bytes]) -> Appended:
        appended: Appended = await self._writing.append(uid, drafts, blobs)
        return appended

    async def submit(self, steps: Sequence[SubmittedStep], channel: str | None) -> Submitted:
        submitted: Submitted = await self._writing.run(lambda transaction: submit(transaction, steps, channel))
        return submitted

    async def complete(self, uid: str, *, reward: float | None, channel: str | None) -> Trajectory:
        return await self._row(lambda transaction: trajectories.complete(transaction, uid, reward, channel))

    async def delete(self, uid: str) -> None:
        await self._writing.run(lambda transaction: trajectories.delete(transaction, uid))

    async def calls(self, uid: str) -> list[Call]:
        return await self._reads.run(lambda db: reading.calls(db, uid))

    async def records(self, uid: str) -> list[tuple[int, bytes, bytes]]:
        return await self._reads.run(lambda db: reading.records(db, uid))

    async def extras(self, uid: str, seqs: Sequence[int]) -> dict[int, bytes]:
        return await self._reads.run(lambda db: reading.extras(db, uid, seqs))

    async def sessions(self, kind: Kind | None = None) -> list[Trajectory]:
        return await self._reads.run(lambda db: reading.sessions(db, kind))

    async def state(self) -> dict[str, Any]:
        return await self._reads.run(sharing.state)

    async def set_state(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = await self._writing.run(lambda transaction: sharing.set_state(transaction, changes))
        return state

    async def add_key(self, key: Key) -> None:
        await self._writing.run(lambda transaction: sharing.add_key(transaction, key))

    async def keys(self) -> list[Key]:
        return await self._reads.run(sharing.keys)

    async def revoke_key(self, key_id: str, at: float) -> Key:
        key: Key = await self._writing.run(lambda transaction: sharing.revoke_key(transaction, key_id, at))
        return key

    async def lease(self, ask: LeaseAsk, *, packed: bool = False) -> tuple[list[Lease], int]:
        self._waiting.looks()
        taken, stale = await self._writing.run(lambda transaction: leasing.lease(transaction, ask))
        read = partial(leased, marks=ask.marks, packed=packed)
        return [await self._reads.run(partial(read, taken=one)) for one in taken], stale

    async def ack(self, lease_ids: Sequence[str]) -> int:
        acked: int = await self._writing.run(lambda transaction: leasing.ack(transaction, lease_ids))
        return acked

    async def nack(self, lease_ids: Sequence[str], *, delay_s: float, drop: bool, reason: str | None) -> int:
        nacked: int = await self._writing.run(
            lambda transaction: leasing.nack(transaction, lease_ids, delay_s, drop, reason)
        )
        return nacked

    async def mark(self, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
        marked: dict[str, Any] = await self._writing.run(lambda transaction: mark(transaction, uid, step_index, marks))
        return marked

    async def reward_step(self, uid: str, step_index: int, reward: float) -> None:
        await self._writing.run(lambda transaction: reward_step(transaction, uid, step_index, reward))

    async def stats(self, channel: str | None, n_rollouts: int) -> dict[str, Any]:
        now = self._clock()
        if self._waiting.is_due(now):
            await self._writing.run(_sweep)
        return await self._reads.run(lambda db: pages.stats(db, channel, n_rollouts, now))

    async def steps(self, filters: Mapping[str, Any], limit: int, cursor: str | None, *, packed: bool = False) -> Page:
        return await self._reads.run(lambda db: pages.steps(db, filters, limit, cursor, packed=packed))

    async def trajectories(self, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
        return await self._reads.run(lambda db: pages.trajectories(db, filters, limit, cursor))

    async def events(self, channel: str | None, after: int | None) -> AsyncIterator[Event]:
        latest = await self.latest_event()
        place = latest if after is None else min(after, latest)
        while True:
            seen = self._waiting.commits
            some = await self._reads.run(partial(events.read, after=place, limit=_EVENTS))
            for event in some:
                place = event.id
                if channel is None or event.channel == channel:
                    yield event
            if not some:
                await self._waiting.for_commit(seen)
                # Under load there are hundreds of commits a second: one look for several of them is enough.
                await asyncio.sleep(_GATHER_S)

    async def latest_event(self) -> int:
        return await self._reads.run(events.latest)

    async def retain(self, ask: Retention, *, dry_run: bool) -> Retained:
        return await self._retainer.retain(ask, dry_run=dry_run)

    async def wait_for_change(self, timeout_s: float) -> None:
        await self._waiting.for_group(timeout_s)

    async def _row(self, operation: Callable[[Transaction], Kept]) -> Trajectory:
        kept = await self._writing.run(operation)
        return trajectories.to_trajectory(kept)

    async def _sweep_when_due(self) -> None:
        """Leases that run out are seen in time, also when nobody asks."""
        while True:
            await self._waiting.for_deadline()
            try:
                await self._writing.run(_sweep)
            except StoreFault:
                # The disk may be full: whoever leases or acks meanwhile sweeps too.
                await asyncio.sleep(_RETRY_S)

    async def _keep_up(self) -> None:
        """Count what is new, and finish removing what was cut off, beside everything else."""
        seen = -1
        with suppress(StoreFault):
            await self._retainer.clean_up()
        while True:
            if self._waiting.commits != seen:
                seen = self._waiting.commits
                with suppress(StoreFault):  # the next one does it
                    await self._retainer.fold()
            await asyncio.sleep(_KEEP_UP_S)


def _free_none(transaction: Transaction, pages: int) -> int:
    del transaction, pages
    return 0


def _sweep(transaction: Transaction) -> None:
    leasing.sweep(transaction)
    transaction.group_changed = True
