"""Which model calls may begin, and how many are under way: none begins while paused, at the limit, or draining."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from moorage.gateway.http.faults import Fault

__all__ = ["Gate", "Pause"]

FULL_RETRY_S = 1
DRAINING_RETRY_S = 2


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Why no model call begins. `id` is another one for each pause."""

    id: str
    since: float
    """Unix seconds."""
    retry_after_s: int = 5
    reason: str | None = None


class Gate:
    """Every model call passes it once. Used by the event loop alone."""

    def __init__(self, limit: int | None) -> None:
        """`limit`: calls under way at once; None: as many as come."""
        self.in_flight = 0
        """Model calls under way, those of streams until their last byte."""
        self.paused: Pause | None = None
        self.draining = False
        self.refused = {"paused": 0, "full": 0, "draining": 0}
        self._limit = limit if limit is not None else 1 << 62
        self._shut = False
        self._quiet: set[asyncio.Future[None]] = set()

    def enter(self) -> None:
        """A call begins. Raises a Fault of 429 or 503 that says when to come again."""
        if self._shut or self.in_flight >= self._limit:
            raise self._refusal()
        self.in_flight += 1

    def leave(self) -> None:
        """It is over, however it ended."""
        self.in_flight -= 1
        if not self.in_flight and self._quiet:
            for waiter in self._quiet:
                if not waiter.done():
                    waiter.set_result(None)

    def pause(self, pause: Pause | None) -> None:
        """Take no call from now on; None: take them again."""
        self.paused = pause
        self._shut = self.draining or pause is not None

    def drain(self) -> None:
        """Take no call any more."""
        self.draining = self._shut = True

    async def wait_until_quiet(self, timeout_s: float) -> int:
        """Return when no call is under way, or the time is over; how many are left."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.in_flight:
            self._quiet.add(waiter)
            try:
                await asyncio.wait((waiter,), timeout=timeout_s)
            finally:
                self._quiet.discard(waiter)
        return self.in_flight

    def _refusal(self) -> Fault:
        if self.draining:
            self.refused["draining"] += 1
            return Fault(503, "the gateway is stopping", code="draining", retry_after_s=DRAINING_RETRY_S)
        if self.paused is not None:
            self.refused["paused"] += 1
            return _paused(self.paused)
        self.refused["full"] += 1
        message = f"{self.in_flight} model calls are under way, as many as are allowed (--max-concurrency)"
        return Fault(429, message, code="too_many_calls", retry_after_s=FULL_RETRY_S)


def _paused(pause: Pause) -> Fault:
    why = f": {pause.reason}" if pause.reason else ""
    extra: dict[str, Any] = {"reason": pause.reason} if pause.reason else {}
    return Fault(429, f"the gateway is paused{why}", code="paused", retry_after_s=pause.retry_after_s, extra=extra)
