"""Retries that reach another worker than the request they repeat: stored once, the engine asked once.

A retry of a finished call is found in the store, by any worker. One of a call in flight is not there yet, so a request
that may be a retry asks the other workers of this machine before it asks the engine. Each such request is

    asking    registered here, not heard from all others yet
    waiting   for another worker's
    at work   all others have said no, and the store has no reply yet; so is every request that gives no reason to ask

A worker that is asked says yes for what is at work, and for what is asking unless that gives way: of two that ask at
once the one at the lower worker goes on. Who has given way remembers it, since it may have been told no before the
other one began. What waits is no reason to wait, or two would wait for each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from moorage.capture.retry import RetryKey, choose

if TYPE_CHECKING:
    from moorage.gateway.http.reply import Reply, Stream
    from moorage.gateway.turns.live import LiveSession, LiveSessions
    from moorage.gateway.turns.retries import Flight
    from moorage.gateway.workers.peers import Peers

__all__ = ["FlightsElsewhere"]

IN_FLIGHT = "in_flight"
LANDED = "landed"
ASK_S = 5.0
"""A worker that does not say within this whether it has a call in flight is taken to have none."""

Replies = Callable[[], Awaitable["Reply | Stream"]]


class _Question(msgspec.Struct, array_like=True, frozen=True):
    uid: str
    key: RetryKey
    asker: int


class _Claim:
    """A request that is not at work yet."""

    __slots__ = ("gave_way_to", "key", "waits")

    def __init__(self, key: RetryKey) -> None:
        self.key = key
        self.gave_way_to: int | None = None
        """The worker that was told to go on."""
        self.waits = False


class FlightsElsewhere:
    """What this worker asks the others about retries, and answers them."""

    def __init__(self, peers: Peers, sessions: LiveSessions) -> None:
        self._peers = peers
        self._sessions = sessions
        self._claims: dict[Flight, _Claim] = {}
        peers.on(IN_FLIGHT, self._is_in_flight)
        peers.on(LANDED, self._landed)

    def once(
        self, live: LiveSession, retry: RetryKey, work: Replies, replay: Callable[[int], Awaitable[Reply | Stream]]
    ) -> Replies:
        """`work`, or the replay of what another worker answers meanwhile; called when the request is registered."""
        if not (retry.counted or retry.idempotency_digest):
            return work

        async def once() -> Reply | Stream:
            flight = live.in_flight[retry.content][-1]  # its own: nothing has been awaited since
            claim = self._claims[flight] = _Claim(retry)
            try:
                while True:
                    holder = await self._holder(live.trajectory.uid, claim)
                    if holder is not None:
                        claim.waits = True
                        question = self._question(live.trajectory.uid, retry)
                        await self._peers.ask_one(holder, LANDED, question, within_s=None)
                    await self._sessions.refresh(live)  # one that nobody has at work any more may be there by now
                    past = live.past(retry.content)
                    action, at = choose(retry, (), [one.idempotency_digest for one in past])
                    if action == "replay":
                        return await replay(past[at].seq)
                    if holder is None and claim.gave_way_to is None:
                        break
            finally:
                del self._claims[flight]
            return await work()

        return once

    async def _holder(self, uid: str, claim: _Claim) -> int | None:
        """The worker whose request this one repeats; None: none has it at work."""
        claim.waits, claim.gave_way_to = False, None
        answers = await self._peers.ask(IN_FLIGHT, self._question(uid, claim.key), within_s=ASK_S)
        return next((worker for worker, answer in answers if answer), claim.gave_way_to)

    def _question(self, uid: str, key: RetryKey) -> bytes:
        return msgspec.msgpack.encode(_Question(uid, key, self._peers.index))

    async def _is_in_flight(self, said: bytes) -> bytes:
        """Not empty: yes, and the asker has to wait for it."""
        asked = msgspec.msgpack.decode(said, type=_Question)
        return b"yes" if any([self._holds(flight, asked) for flight in self._matching(asked)]) else b""

    def _holds(self, flight: Flight, asked: _Question) -> bool:
        claim = self._claims.get(flight)
        if claim is None:
            return True
        if claim.waits:
            return False
        gives_way = asked.asker < self._peers.index and claim.key.repeats(asked.key.idempotency_digest)
        if gives_way:
            claim.gave_way_to = asked.asker
        return not gives_way

    async def _landed(self, said: bytes) -> bytes:
        """Answered when it is over."""
        for flight in self._matching(msgspec.msgpack.decode(said, type=_Question)):
            claim = self._claims.get(flight)
            if claim is None or not claim.waits:
                await flight.landed()
        return b"yes"

    def _matching(self, asked: _Question) -> list[Flight]:
        live = self._sessions.known(asked.uid)
        if live is None:
            return []
        return [one for one in live.in_flight.get(asked.key.content, ()) if asked.key.repeats(one.idempotency_digest)]
