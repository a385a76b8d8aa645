"""Leases one after the other, awaited: acked when done with, given back when something went wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from moorage.client.gateway.asks import pool
from moorage.client.gateway.lease_terms import Held, LeaseTerms
from moorage.client.gateway.values import Lease
from moorage.errors import MoorageError

if TYPE_CHECKING:
    from moorage.client.http.awaiting import Awaiting

__all__ = ["AsyncLeaseRun"]

LATE_S = 0.25
"""How long a reply that is on its way when its caller is cancelled is waited for."""


class AsyncLeaseRun:
    """`async with run: async for lease in run:` acks a lease when the next one is asked for, or the loop is left.

    An exception gives it back, cancellation too. A bare `async for` gives back by `aclose`, which Python calls when it
    finds the time: prefer the `async with`. For one consumer at a time.
    """

    def __init__(self, http: Awaiting, terms: LeaseTerms) -> None:
        self._http, self._terms = http, terms
        self._held: Held[Lease] = Held()
        self._within = False
        """In a `with` block: leaving that settles what is held, not the loop's end."""

    async def __aenter__(self) -> AsyncLeaseRun:
        self._within = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            await self.ack()
        await self._give_back(quietly=kind is not None)

    async def __aiter__(self) -> AsyncIterator[Lease]:
        done = False
        try:
            while (lease := await self._next()) is not None:
                yield lease
                await self.ack()
            done = True
        finally:
            if not self._within:
                await self._give_back(quietly=not done)

    async def ack(self) -> None:
        """The lease that was handed out last is done with, if it is not settled yet. Raises ConflictError
        `lease_lost` when it ran out and somebody else has the group."""
        lease = self._held.out
        if lease is not None:
            self._held.settled()
            await self._http.send(pool.ack([lease.lease_id]))

    async def nack(self, *, delay_s: float = 0.0, drop: bool = False, reason: str | None = None) -> None:
        """It goes back, or is dropped for good."""
        lease = self._held.out
        if lease is not None:
            self._held.settled()
            await self._http.send(pool.nack([lease.lease_id], delay_s, drop, reason))

    async def _next(self) -> Lease | None:
        held, idle_for_s = self._held, 0.0
        idle_since = time.monotonic()
        while not held.waiting:
            body = self._terms.body(idle_for_s=idle_for_s, taken=held.taken)
            if body is None:
                return None
            held.take(await self._lease(body))
            idle_for_s = time.monotonic() - idle_since
        return held.next()

    async def _lease(self, body: dict[str, Any]) -> list[Lease]:
        """What is leased just as the caller is cancelled goes back; what is not answered soon is broken off."""
        asking = asyncio.ensure_future(self._http.send(pool.lease(body)))
        try:
            return (await asyncio.shield(asking)).leases
        except asyncio.CancelledError:
            await asyncio.wait((asking,), timeout=LATE_S)
            if not asking.cancel() and not asking.cancelled() and asking.exception() is None:
                self._held.take(asking.result().leases)
                await self._give_back(quietly=True)
            raise

    async def _give_back(self, *, quietly: bool) -> None:
        left = self._held.rest()
        if not left:
            return
        back = asyncio.ensure_future(
            self._http.send(pool.nack([lease.lease_id for lease in left], 0.0, False, "not done with"))
        )
        try:
            await asyncio.shield(back)  # a cancelled consumer's leases go back too
        except MoorageError:
            if not quietly:
                raise
