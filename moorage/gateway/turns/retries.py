"""Retries are answered once: a request that repeats one in flight waits for it, of a finished one gets its reply.

A repeat is a retry only with evidence (`moorage.capture.retry`): the same Idempotency-Key, or the OpenAI SDK's own
count. Without it an identical body is a new sample. Finished replies are read back from the store, so a retry after a
restart of the gateway is answered too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from moorage.capture.retry import RetryKey, choose, key_of, retry_evidence
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.request import Request
from moorage.gateway.turns.live import LiveSession

__all__ = ["Flight", "answer_once", "retry_of"]


def retry_of(request: Request, content: bytes) -> RetryKey:
    """`content`: [16] digest of the route within the session and the whole body."""
    key, count = request.header(b"idempotency-key"), request.header(b"x-stainless-retry-count")
    if key is None and count is None:
        return RetryKey(content, b"", counted=False)
    return key_of(content, retry_evidence(key, count))


async def answer_once(
    live: LiveSession,
    retry: RetryKey,
    work: Callable[[], Awaitable[Reply | Stream]],
    replay: Callable[[int], Awaitable[Reply | Stream]],
) -> Reply | Stream:
    """`work()`, or `replay(seq)` of the request that this one repeats, waiting for it when it is in flight."""
    while retry.counted or retry.idempotency_digest:  # without evidence it is a new sample
        running, past = live.in_flight.get(retry.content, ()), live.past(retry.content)
        earlier = [one.idempotency_digest for one in past]
        action, at = choose(retry, [flight.idempotency_digest for flight in running], earlier)
        if action == "ask":
            break
        if action == "replay":
            return await replay(past[at].seq)
        await running[at].landed()  # it may fail or lose its client: then this one is a new call
    flight = Flight(live, retry)
    try:
        outcome = await work()
    except BaseException:
        flight.land()
        raise
    if isinstance(outcome, Stream):
        outcome.at_end.append(flight.land)
    else:
        flight.land()
    return outcome


class Flight:
    """A request in flight, as others see it."""

    __slots__ = ("_key", "_landed", "_live", "_over", "idempotency_digest")

    def __init__(self, live: LiveSession, retry: RetryKey) -> None:
        self.idempotency_digest = retry.idempotency_digest
        self._live = live
        self._key = retry.content
        self._landed = False
        self._over: asyncio.Event | None = None
        """Made when somebody waits."""
        live.in_flight.setdefault(retry.content, []).append(self)
        live.busy += 1

    async def landed(self) -> None:
        """Wait until it is over."""
        if self._over is None:
            self._over = asyncio.Event()
        await self._over.wait()

    def land(self) -> None:
        """It is over, however it ended."""
        if self._landed:
            return
        self._landed = True
        siblings = self._live.in_flight[self._key]
        siblings.remove(self)
        if not siblings:
            del self._live.in_flight[self._key]
            if not self._live.in_flight:
                self._live.in_flight = {}  # an emptied one would keep its table
        self._live.busy -= 1
        if self._over is not None:
            self._over.set()
