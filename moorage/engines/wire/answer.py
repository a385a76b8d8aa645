"""What an upstream answered: whole, or as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from moorage.engines.wire.exchange import Exchange

__all__ = ["Answer", "Headers", "StreamedAnswer"]

Headers = list[tuple[bytes, bytes]]
"""Names in lower case. Hop-by-hop headers and content-length are left out: the body says its length."""


class Answer:
    """A whole reply."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name (lower case)."""
        return next((value for key, value in self.headers if key == name), None)


class Sender(Protocol):
    """The connection that a reply comes over."""

    def read_on(self) -> None:
        """The consumer has taken what there was."""

    def abort(self) -> None:
        """Close at once; the upstream notices."""


class StreamedAnswer:
    """A reply whose body comes in pieces. It must be read to its end or aborted: until then it holds a connection."""

    __slots__ = ("_exchange", "_on_end", "_sender", "headers", "status")

    def __init__(self, exchange: Exchange, sender: Sender) -> None:
        self.status = exchange.status
        self.headers: Headers = exchange.headers
        self._exchange = exchange
        self._sender = sender
        self._on_end: Callable[[], None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name (lower case)."""
        return next((value for key, value in self.headers if key == name), None)

    def call_at_end(self, on_end: Callable[[], None]) -> None:
        """Call it once: when the last byte was taken, when the reply broke, or at abort."""
        self._on_end = on_end

    async def begun(self) -> None:
        """Return when there is something of the body, or it is over. Raises Broken and Silent where nothing came."""
        exchange = self._exchange
        try:
            while not (exchange.pieces or exchange.finished or exchange.fault is not None):
                await exchange.wait()
        except BaseException:
            self.abort()
            raise
        if exchange.fault is not None and not exchange.pieces:
            raise exchange.fault

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces as they come, never empty; what came together is given together.

        Raises Broken and Silent. Leaving early, also by cancellation, aborts.
        """
        exchange = self._exchange
        try:
            while True:
                if exchange.pieces:
                    yield exchange.take()
                    self._sender.read_on()
                elif exchange.fault is not None:
                    raise exchange.fault
                elif exchange.finished:
                    return
                else:
                    await exchange.wait()
        finally:
            self.abort()

    async def read(self) -> bytes:
        """The rest of the body. Raises Broken and Silent."""
        return b"".join([piece async for piece in self.chunks()])

    def abort(self) -> None:
        """Close the connection if the reply is not complete; safe to call at any time, more than once."""
        if not self._exchange.finished and self._exchange.fault is None:
            self._sender.abort()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
