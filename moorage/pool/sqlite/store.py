"""The store's face: what the gateway awaits. Writes go to the writer's thread, reads to the readers'."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from moorage.capture.call import Call, Draft
from moorage.pool.contract import (
    Appended,
    Change,
    Event,
    Kind,
    Lease,
    LeaseAsk,
    NewTrajectory,
    Page,
    Submitted,
    SubmittedStep,
    Trajectory,
)
from moorage.pool.faults import StoreFault
from moorage.pool.sqlite import events, leasing, pages, reading, trajectories
from moorage.pool.sqlite.appending import INTEGERS
from moorage.pool.sqlite.marking import mark
from moorage.pool.sqlite.place import Place
from moorage.pool.sqlite.readers import Readers
from moorage.pool.sqlite.steps import leased
from moorage.pool.sqlite.submitting import submit
from moorage.pool.sqlite.trajectories import Kept
from moorage.pool.sqlite.transaction import Transaction
from moorage.pool.sqlite.waiting import Waiting
from moorage.pool.sqlite.writer import Writer

__all__ = ["SqliteStore"]

_EVENTS = 500
_GATHER_S = 0.02
_RETRY_S = 1.0


class SqliteStore:
    """`moorage.pool.contract.Store` in one SQLite file; several processes may have it open."""

    def __init__(
        self,
        path: Path,
        *,
        max_attempts: int = 5,
        clock: Callable[[], float] = time.time,
        make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """`max_attempts`: deliveries without an ack after which a group is dropped. `clock` gives Unix seconds."""
        self._clock = clock
        self._place = Place(path)
        self._readers = Readers(self._place)
        self._waiting = Waiting(self._readers, clock)
        self._writer = Writer(
            self._place, clock=clock, make_id=make_id, max_attempts=max_attempts, committed=self._waiting.committed
        )
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await asyncio.to_thread(self._writer.open)
        self._writer.start()
        try:
            await self._writer.run(_sweep)
        except StoreFault as fault:
            await self.close()
            raise self._place.unusable(fault.__cause__) from fault
        self._sweeper = asyncio.create_task(self._sweep_when_due())

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        await self._writer.close()
        await asyncio.to_thread(self._readers.close)

    async def create(self, new: NewTrajectory) -> Trajectory:
        return await self._row(lambda transaction: trajectories.create(transaction, new))

    async def find(self, uid: str) -> Trajectory | None:
        return await self._readers.run(lambda db: reading.trajectory(db, uid))

    async def change(self, uid: str, change: Change) -> Trajectory:
        return await self._row(lambda transaction: trajectories.change(transaction, uid, change))

    async def append(self, uid: str, drafts: Sequence[Draft], blobs: Mapping[bytes, bytes]) -> Appended:
        appended: Appended = await self._writer.append(uid, drafts, blobs)
        return appended

    async def submit(self, steps: Sequence[SubmittedStep], channel: str | None) -> Submitted:
        submitted: Submitted = await self._writer.run(lambda transaction: submit(transaction, steps, channel))
        return submitted

    async def complete(self, uid: str, *, reward: float | None, channel: str | None) -> Trajectory:
        return await self._row(lambda transaction: trajectories.complete(transaction, uid, reward, channel))

    async def delete(self, uid: str) -> None:
        await self._writer.run(lambda transaction: trajectories.delete(transaction, uid))

    async def calls(self, uid: str) -> list[Call]:
        return await self._readers.run(lambda db: reading.calls(db, uid))

    async def records(self, uid: str) -> list[tuple[int, bytes, bytes]]:
        return await self._readers.run(lambda db: reading.records(db, uid))

    async def extras(self, uid: str, seqs: Sequence[int]) -> dict[int, bytes]:
        return await self._readers.run(lambda db: reading.extras(db, uid, seqs))

    async def sessions(self, kind: Kind | None = None) -> list[Trajectory]:
        return await self._readers.run(lambda db: reading.sessions(db, kind))

    async def lease(self, ask: LeaseAsk) -> tuple[list[Lease], int]:
        self._waiting.looks()
        taken, stale = await self._writer.run(lambda transaction: leasing.lease(transaction, ask))
        return [await self._readers.run(partial(leased, taken=one)) for one in taken], stale

    async def ack(self, lease_ids: Sequence[str]) -> int:
        acked: int = await self._writer.run(lambda transaction: leasing.ack(transaction, lease_ids))
        return acked

    async def nack(self, lease_ids: Sequence[str], *, delay_s: float, drop: bool, reason: str | None) -> int:
        nacked: int = await self._writer.run(
            lambda transaction: leasing.nack(transaction, lease_ids, delay_s, drop, reason)
        )
        return nacked

    async def mark(self, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
        marked: dict[str, Any] = await self._writer.run(lambda transaction: mark(transaction, uid, step_index, marks))
        return marked

    async def stats(self, channel: str | None, n_rollouts: int) -> dict[str, Any]:
        now = self._clock()
        if self._waiting.is_due(now):
            await self._writer.run(_sweep)
        return await self._readers.run(lambda db: pages.stats(db, channel, n_rollouts, now))

    async def steps(self, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
        return await self._readers.run(lambda db: pages.steps(db, filters, limit, cursor))

    async def trajectories(self, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
        return await self._readers.run(lambda db: pages.trajectories(db, filters, limit, cursor))

    async def events(self, channel: str | None, after: int | None) -> AsyncIterator[Event]:
        place = await self._readers.run(events.latest) if after is None else min(after, INTEGERS[-1])
        while True:
            seen = self._waiting.commits
            some = await self._readers.run(partial(events.read, after=place, limit=_EVENTS))
            for event in some:
                place = event.id
                if channel is None or event.channel == channel:
                    yield event
            if not some:
                await self._waiting.for_commit(seen)
                # Under load there are hundreds of commits a second: one look for several of them is enough.
                await asyncio.sleep(_GATHER_S)

    async def wait_for_change(self, timeout_s: float) -> None:
        await self._waiting.for_group(timeout_s)

    async def _row(self, operation: Callable[[Transaction], Kept]) -> Trajectory:
        kept = await self._writer.run(operation)
        return trajectories.to_trajectory(kept)

    async def _sweep_when_due(self) -> None:
        """Leases that run out are seen in time, also when nobody asks."""
        while True:
            await self._waiting.for_deadline()
            try:
                await self._writer.run(_sweep)
            except StoreFault:
                # The disk may be full: whoever leases or acks meanwhile sweeps too.
                await asyncio.sleep(_RETRY_S)


def _sweep(transaction: Transaction) -> None:
    leasing.sweep(transaction)
    transaction.group_changed = True
