"""Requests that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx

from moorage.client.http.ask import Ask
from moorage.client.http.attempts import Attempts, options_of, readable
from moorage.client.http.terms import Terms

__all__ = ["Awaiting"]

T = TypeVar("T")


class Awaiting:
    """Connections to one gateway, made in the event loop that asks first; one that is used in another loop begins
    anew. Cancelling a request closes its connection, which the gateway notices."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, ask: Ask[T]) -> T:
        """The reply, read. Raises errors of `moorage.errors` with the gateway's code."""
        attempts = Attempts(ask, self.terms)
        while True:
            attempts.made += 1
            try:
                with readable(self.terms):
                    reply = await self._client().request(**options_of(ask, self.terms))
            except (httpx.TransportError, OSError) as fault:
                await asyncio.sleep(attempts.pause_after_fault(fault))
                continue
            pause = attempts.pause_after(reply)
            if pause is None:
                return attempts.value(reply)
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def stream(self, ask: Ask[Any]) -> AsyncIterator[httpx.Response]:
        """A reply as it comes, whatever its status; asked once. Raises httpx.TransportError."""
        with readable(self.terms):
            async with self._client().stream(**options_of(ask, self.terms)) as reply:
                yield reply

    async def close(self) -> None:
        """Close every connection."""
        http, self._http = self._http, None
        if http is not None and self._loop is asyncio.get_running_loop():
            await http.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            terms = self.terms
            limits = httpx.Limits(max_connections=terms.max_connections, max_keepalive_connections=100)
            self._http = httpx.AsyncClient(base_url=terms.url, headers=terms.headers, limits=limits, trust_env=False)
            self._loop = loop
        return self._http
