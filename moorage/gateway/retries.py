"""Retries are answered once: a request that repeats one in flight waits for it, of a finished one gets its reply.

A repeat is a retry only with evidence (`moorage.capture.retry`): the same Idempotency-Key, or the OpenAI SDK's own
count. Without it an identical body is a new sample. Finished replies are read back from the store, so a retry after a
restart of the gateway is answered too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from moorage.capture.retry import Begun, RetryKey, choose, retry_evidence
from moorage.gateway.live import LiveSession
from moorage.gateway.reply import Reply, Stream
from moorage.gateway.request import Request

__all__ = ["answer_once", "retry_of"]


def retry_of(request: Request, content: Begun) -> RetryKey:
    """`content`: the digest of the route within the session and the whole body."""
    key, count = request.header(b"idempotency-key"), request.header(b"x-stainless-retry-count")
    return content.key(retry_evidence(key, count))


async def answer_once(
    live: LiveSession,
    retry: RetryKey,
    work: Callable[[], Awaitable[Reply | Stream]],
    replay: Callable[[int], Awaitable[Reply | Stream]],
) -> Reply | Stream:
    """`work()`, or `replay(seq)` of the request that this one repeats, waiting for it when it is in flight."""
    while retry.counted or retry.idempotency_digest:  # without evidence it is a new sample
        running, past = live.in_flight.get(retry.content, ()), live.past.get(retry.content, ())
        action, at = choose(retry, [one[0] for one in running], [one.idempotency_digest for one in past])
        if action == "ask":
            break
        if action == "replay":
            return await replay(past[at].seq)
        await asyncio.wait([running[at][1]])  # it may fail or lose its client: then this one is a new call
    return await _work(live, retry, work)


async def _work(live: LiveSession, retry: RetryKey, work: Callable[[], Awaitable[Reply | Stream]]) -> Reply | Stream:
    flight = _Flight(live, retry)
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


class _Flight:
    """A request in flight, as others see it."""

    def __init__(self, live: LiveSession, retry: RetryKey) -> None:
        self._live = live
        self._key = retry.content
        self._mine = (retry.idempotency_digest, asyncio.get_running_loop().create_future())
        live.in_flight.setdefault(retry.content, []).append(self._mine)
        live.busy += 1

    def land(self) -> None:
        """It is over, however it ended."""
        if self._mine[1].done():
            return
        siblings = self._live.in_flight[self._key]
        siblings.remove(self._mine)
        if not siblings:
            del self._live.in_flight[self._key]
        self._live.busy -= 1
        self._mine[1].set_result(None)
