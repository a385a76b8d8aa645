"""Leases one after the other, blocking: acked when done with, given back when something went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from moorage.client.gateway.asks import pool
from moorage.client.gateway.lease_terms import Held, LeaseTerms
from moorage.client.gateway.values import Lease
from moorage.errors import MoorageError

if TYPE_CHECKING:
    from moorage.client.http.blocking import Blocking

__all__ = ["LeaseRun"]


class LeaseRun:
    """`for lease in run:` acks a lease when the next one is asked for.

    An exception in the loop gives the lease back. So does leaving a bare loop early (`break`): Python does not tell it
    from an exception. Within `with run:` leaving the loop or the block acks, and only an exception gives back. For one
    consumer at a time.
    """

    def __init__(self, http: Blocking, terms: LeaseTerms) -> None:
        self._http, self._terms = http, terms
        self._held: Held[Lease] = Held()
        self._within = False
        """In a `with` block: leaving that settles what is held, not the loop's end."""

    def __enter__(self) -> LeaseRun:
        self._within = True
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.ack()
        self._give_back(quietly=kind is not None)

    def __iter__(self) -> Iterator[Lease]:
        done = False
        try:
            while (lease := self._next()) is not None:
                yield lease
                self.ack()
            done = True
        finally:
            if not self._within:
                self._give_back(quietly=not done)

    def ack(self) -> None:
        """The lease that was handed out last is done with, if it is not settled yet. Raises ConflictError
        `lease_lost` when it ran out and somebody else has the group."""
        lease = self._held.out
        if lease is not None:
            self._held.settled()
            self._http.send(pool.ack([lease.lease_id]))

    def nack(self, *, delay_s: float = 0.0, drop: bool = False, reason: str | None = None) -> None:
        """It goes back, or is dropped for good."""
        lease = self._held.out
        if lease is not None:
            self._held.settled()
            self._http.send(pool.nack([lease.lease_id], delay_s, drop, reason))

    def _next(self) -> Lease | None:
        held, idle_for_s = self._held, 0.0
        idle_since = time.monotonic()
        while not held.waiting:
            body = self._terms.body(idle_for_s=idle_for_s, taken=held.taken)
            if body is None:
                return None
            held.take(self._http.send(pool.lease(body)).leases)
            idle_for_s = time.monotonic() - idle_since
        return held.next()

    def _give_back(self, *, quietly: bool) -> None:
        """`quietly`: something worse is on its way to the caller; the leases run out by themselves."""
        left = self._held.rest()
        if not left:
            return
        try:
            self._http.send(pool.nack([lease.lease_id for lease in left], 0.0, False, "not done with"))
        except MoorageError:
            if not quietly:
                raise
