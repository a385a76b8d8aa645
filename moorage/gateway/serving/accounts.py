"""Users' requests from their admission to their end, in one process or in several that share the limits.

Of several workers one keeps the account of a user, the same for all of them, and the others ask it: a limit is the
whole gateway's, whichever worker a connection reaches. When that one dies, the account begins anew with the next.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import msgspec

from moorage.gateway.serving.feed import Quota
from moorage.gateway.serving.meter import Meter
from moorage.gateway.serving.rations import Rations, Refused

if TYPE_CHECKING:
    from moorage.gateway.http.request import Request
    from moorage.gateway.workers.peers import Peers

__all__ = ["Accounts"]

BEGIN, END, FRESH = "ration_begin", "ration_end", "ration_fresh"
GRACE_S = 0.05
"""A request that is over may be heard of later than the next one of its client."""
UNLIMITED = Quota()


class _LetIn:
    """One request."""

    __slots__ = ("keeper", "tokens", "user")

    def __init__(self, user: str, keeper: int) -> None:
        self.user = user
        self.keeper = keeper
        """The worker that has its user's account."""
        self.tokens = 0


class _Begin(msgspec.Struct, array_like=True, frozen=True):
    user: str
    worker: int


class _End(msgspec.Struct, array_like=True, frozen=True):
    user: str
    worker: int
    tokens: int


class Accounts:
    """This worker's. Belongs to one event loop; made before the workers talk to each other."""

    def __init__(self, rations: Rations, peers: Peers | None) -> None:
        """`peers`: None where one process is all of the gateway."""
        self._rations = rations
        self._peers = peers
        self._index = 0 if peers is None else peers.index
        self._let_in: dict[Request, _LetIn] = {}
        self.refused = {"requests_per_minute": 0, "tokens_per_minute": 0, "concurrent_requests": 0}
        if peers is not None:
            for what, answer in ((BEGIN, self._asked), (END, self._told), (FRESH, self._lost)):
                peers.on(what, answer)

    def start(self) -> None:
        """This worker has none under way yet: what one before it had is over."""
        if self._peers is not None:
            self._peers.tell(FRESH, bytes((self._index,)))

    def allow(self, quota: Quota | None) -> None:
        """What each user may use up from now on; None: any amount."""
        self._rations.quota = quota or UNLIMITED
        self._rations.tidy()

    def admit(self, user: str, request: Request) -> Awaitable[None] | None:
        """A request of that user begins. Raises a Fault of 429; what to await: another worker decides."""
        if self._rations.quota == UNLIMITED:
            return None
        if self._peers is not None:
            return self._admit(self._peers, user, request)
        self._settle(user, request, self._rations.begin(user), 0)
        return None

    def over(self, request: Request) -> None:
        """It is over, however it ended."""
        let_in = self._let_in.pop(request, None)
        if let_in is None:
            return
        if let_in.keeper == self._index or self._peers is None:
            self._rations.end(let_in.user, let_in.tokens, self._index)
        else:
            said = msgspec.msgpack.encode(_End(let_in.user, self._index, let_in.tokens))
            self._peers.tell_one(let_in.keeper, END, said)

    def meter(self, request: Request) -> Meter | None:
        """What counts its tokens; None: nobody wants to know."""
        let_in = self._let_in.get(request) if self._let_in else None
        if let_in is None or self._rations.quota.tokens_per_minute is None:
            return None

        def count(tokens: int) -> None:
            let_in.tokens += tokens

        return Meter(count)

    async def _admit(self, peers: Peers, user: str, request: Request) -> None:
        keeper = zlib.crc32(user.encode()) % peers.count
        if keeper != self._index:
            said = msgspec.msgpack.encode(_Begin(user, self._index))
            answer = await peers.ask_one(keeper, BEGIN, said, within_s=None)  # what it let in must be known here
            if answer is not None:
                refused = msgspec.msgpack.decode(answer, type=Refused | None)
                self._settle(user, request, refused, keeper)
                return
        self._settle(user, request, await self._begin(user, self._index), self._index)

    def _settle(self, user: str, request: Request, refused: Refused | None, keeper: int) -> None:
        if refused is not None:
            self.refused[refused.limit] += 1
            raise refused.fault()
        self._let_in[request] = _LetIn(user, keeper)

    async def _begin(self, user: str, worker: int) -> Refused | None:
        refused = self._rations.begin(user, worker)
        if refused is None or refused.limit != "concurrent_requests":
            return refused
        await asyncio.sleep(GRACE_S)
        return self._rations.begin(user, worker)

    async def _asked(self, said: bytes) -> bytes:
        asked = msgspec.msgpack.decode(said, type=_Begin)
        return msgspec.msgpack.encode(await self._begin(asked.user, asked.worker))

    async def _told(self, said: bytes) -> bytes:
        told = msgspec.msgpack.decode(said, type=_End)
        self._rations.end(told.user, told.tokens, told.worker)
        return b""

    async def _lost(self, said: bytes) -> bytes:
        self._rations.lost(said[0])
        return b""
