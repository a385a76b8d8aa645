"""A gateway as something that sessions are made on."""

from __future__ import annotations

from typing import Any, TypeVar

from moorage.client.gateway.asks import sessions
from moorage.client.http.ask import Ask
from moorage.client.http.awaiting import Awaiting
from moorage.client.http.blocking import Blocking
from moorage.client.http.terms import Terms
from moorage.client.sessions.recorded import RecordedSession
from moorage.client.sessions.session import SessionOptions

__all__ = ["GatewayServer"]

T = TypeVar("T")


class GatewayServer:
    """`terms`: how it is talked to."""

    def __init__(self, terms: Terms) -> None:
        self.url = terms.url
        self._terms = terms
        self._http = Awaiting(terms)
        self._blocking: Blocking | None = None
        """For those who do not await; made when the first one comes."""

    def session(self, options: SessionOptions) -> RecordedSession:
        """A new session; its first call makes it."""

        async def connect() -> GatewayServer:
            return self

        return RecordedSession(connect, options)

    async def send(self, ask: Ask[T]) -> T:
        return await self._http.send(ask)

    def nodes_now(self, uuid: str, *, track_tree: bool) -> list[dict[str, Any]]:
        """Blocks while the gateway answers."""
        del track_tree  # the session knows
        self._blocking = self._blocking or Blocking(self._terms)
        return self._blocking.send(sessions.nodes(uuid))

    async def close(self) -> None:
        await self._http.close()
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            blocking.close()
