"""What the workers of one parent do together, beside the store: count sessions, end idle ones, change engines."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import msgspec

from moorage.engines.fleet.servers_file import endpoints_of
from moorage.gateway.workers.flights import FlightsElsewhere
from moorage.gateway.workers.shares import share_of_endpoints

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moorage.engines.fleet.endpoint import Endpoint
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.workers.peers import Peers

__all__ = ["Company"]

OPENED, ENDED, USED, BUSY, SETUP, SET_UP = "opened", "ended", "used", "busy", "setup", "set_up"


class Company:
    """This worker among the others. Made before the gateway starts."""

    def __init__(self, peers: Peers, gateway: Gateway) -> None:
        self.peers = peers
        self.flights = FlightsElsewhere(peers, gateway.sessions)
        self._gateway = gateway
        self._setup = b""
        """The body of the last `/setup`; empty: there was none."""
        opened = gateway.sessions.opened
        opened.on_opened = lambda uid: peers.tell(OPENED, uid.encode())
        opened.on_ended = lambda uid: peers.tell(ENDED, uid.encode())
        for what, answer in (
            (OPENED, self._heard_opened),
            (ENDED, self._heard_ended),
            (USED, self._used),
            (BUSY, self._busy),
            (SETUP, self._heard_setup),
            (SET_UP, self._set_up),
        ):
            peers.on(what, answer)

    async def start(self) -> None:
        """Answer the others, and learn from them which engines to ask. Raises OSError, and what `/setup` raises."""
        await self.peers.start()
        for _, body in await self.peers.ask(SET_UP):
            if body:
                await self._heard_setup(body)
                return

    async def close(self) -> None:
        """Leave them."""
        await self.peers.close()

    # Sessions.

    async def idle(self, candidates: Iterable[str], since: float) -> list[str]:
        """Of the sessions that this worker has not seen since, those that nobody has; it decides for its own part.

        None when a worker does not answer: it may be at work on any of them.
        """
        count, index = self.peers.count, self.peers.index
        mine = [uid for uid in candidates if zlib.crc32(uid.encode()) % count == index]
        if not mine:
            return []
        answers = await self.peers.ask(USED, msgspec.msgpack.encode(mine))
        if len(answers) < count - 1:
            return []
        opened = self._gateway.sessions.opened
        for _, answer in answers:
            for uid, at in msgspec.msgpack.decode(answer, type=dict[str, float]).items():
                if opened.used_at(uid) is not None:
                    opened.use(uid, at)
        return [uid for uid in mine if (opened.used_at(uid) or since) < since]

    async def last_used(self, uids: Iterable[str]) -> dict[str, float]:
        """When sessions were used last, by any worker that answers. Unix seconds."""
        wanted = list(uids)
        latest = self._gateway.sessions.opened.used(wanted)
        for _, answer in await self.peers.ask(USED, msgspec.msgpack.encode(wanted)):
            for uid, at in msgspec.msgpack.decode(answer, type=dict[str, float]).items():
                latest[uid] = max(at, latest.get(uid, 0.0))
        return latest

    async def _heard_opened(self, said: bytes) -> bytes:
        self._gateway.sessions.opened.heard_opened(said.decode())
        return b""

    async def _heard_ended(self, said: bytes) -> bytes:
        uid = said.decode()
        self._gateway.sessions.opened.heard_ended(uid)
        self._gateway.fleet.forget(uid)
        return b""

    async def _used(self, said: bytes) -> bytes:
        """When they were used here; what is at work is used now."""
        sessions, now = self._gateway.sessions, self._gateway.clock()
        used = sessions.opened.used(msgspec.msgpack.decode(said, type=list[str]))
        for uid in used:
            live = sessions.known(uid)
            if live is not None and live.busy:
                used[uid] = now
        return msgspec.msgpack.encode(used)

    # Engines.

    async def busy(self) -> dict[str, int]:
        """Requests in flight in the other workers, by the engine's URL."""
        total: dict[str, int] = {}
        for _, answer in await self.peers.ask(BUSY):
            for url, number in msgspec.msgpack.decode(answer, type=dict[str, int]).items():
                total[url] = total.get(url, 0) + number
        return total

    def share(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """This worker's part of what they take at once."""
        return share_of_endpoints(endpoints, self.peers.index, self.peers.count)

    def set_up(self, body: bytes) -> None:
        """`/setup` was answered here: the others, and those that start later, ask the same engines."""
        self._setup = body
        self.peers.tell(SETUP, body)

    async def _busy(self, said: bytes) -> bytes:
        del said
        return msgspec.msgpack.encode({state.url: state.in_flight for state in self._gateway.fleet.states()})

    async def _heard_setup(self, said: bytes) -> bytes:
        await self._gateway.fleet.replace(self.share(endpoints_of(msgspec.json.decode(said, type=dict[str, object]))))
        self._setup = said
        return b""

    async def _set_up(self, said: bytes) -> bytes:
        del said
        return self._setup
