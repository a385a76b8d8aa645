"""An HTTP/1.1 client for one origin: a pool of kept-alive connections, the one used last first.

It does not look into bodies and knows no engine. A caller that is cancelled closes its connection, which is how an
engine learns that nobody waits any more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from moorage.engines.wire.answer import Answer, StreamedAnswer
from moorage.engines.wire.connection import Connection
from moorage.engines.wire.exchange import Exchange
from moorage.engines.wire.faults import Broken, Unreachable
from moorage.engines.wire.origin import Origin
from moorage.engines.wire.request import first_lines, head_of
from moorage.errors import TryAgainError

__all__ = ["Upstream"]

CONNECT_TIMEOUT_S = 5.0
IDLE_S = 30.0
BODY_CAP_BYTES = 256 * 1024 * 1024
"""Of a whole reply. A 100,000-token prompt echoed with log probabilities stays far below."""
HEADS_KEPT = 64


class Upstream:
    """Requests to one origin. Use it inside one running event loop.

    `headers` go with every request, names in lower case. `tls`: for https origins; None: the machine's trust store.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        idle_s: float = IDLE_S,
        body_cap_bytes: int = BODY_CAP_BYTES,
    ) -> None:
        self.origin = origin
        self._headers = tuple(headers)
        self._tls = (tls or ssl.create_default_context()) if origin.scheme == "https" else None
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._body_cap_bytes = body_cap_bytes
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._heads: dict[tuple[str, str, tuple[tuple[bytes, bytes], ...]], bytes] = {}
        self._closed = False

    async def ask(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        *,
        silence_s: float,
    ) -> Answer:
        """One request and its whole reply, whatever its status.

        Raises Unreachable, Broken, Silent; UsageError for a request that cannot be written.
        """
        exchange = await self._begin(method, target, headers, body, silence_s, streamed=False)
        return Answer(exchange.status, exchange.headers, exchange.take())

    async def open(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        *,
        silence_s: float,
    ) -> StreamedAnswer:
        """The same, as soon as the reply's head is there. Faults of the body are raised by its `chunks`."""
        connections: list[Connection] = []
        exchange = await self._begin(method, target, headers, body, silence_s, streamed=True, taken=connections)
        return StreamedAnswer(exchange, connections[-1])

    async def close(self) -> None:
        """Close every connection, those in use too, and take no more requests."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()

    async def _begin(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        silence_s: float,
        *,
        streamed: bool,
        taken: list[Connection] | None = None,
    ) -> Exchange:
        head = b"%bcontent-length: %d\r\n\r\n" % (self._head(method, target, tuple(headers)), len(body))
        loop = asyncio.get_running_loop()
        stale_seen = False
        while True:
            connection = self._idle.pop() if self._idle and not stale_seen else await self._connect(loop)
            was_used = connection.used
            exchange = Exchange(loop, silence_s=silence_s, streamed=streamed)
            connection.send(head, body, exchange)
            try:
                while not (exchange.finished or exchange.fault is not None or (streamed and exchange.status)):
                    await exchange.wait()
            except BaseException:
                connection.abort()
                raise
            fault = exchange.fault
            if fault is None or (streamed and exchange.status):
                if taken is not None:
                    taken.append(connection)
                return exchange
            # A kept-alive connection may have been closed by the other side while the request was on its way.
            if stale_seen or not was_used or not (isinstance(fault, Broken) and fault.nothing_came):
                raise fault
            stale_seen = True

    def _head(self, method: str, target: str, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        """All but the body's length; few differ, so they are kept."""
        key = (method, target, headers)
        head = self._heads.get(key)
        if head is None:
            lines = first_lines(method, self.origin.prefix + target, self.origin.authority, self._headers)
            head = head_of(lines, headers)
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[key] = head
        return head

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        if self._closed:
            raise TryAgainError(f"the client of {self.origin.url} is closed", code="upstream_closed")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: self._new_connection(loop), self.origin.host, self.origin.port, ssl=self._tls
                )
        except TimeoutError:
            raise Unreachable(
                f"{self.origin.url} did not accept a connection in {self._connect_timeout_s:g} s"
            ) from None
        except (OSError, ssl.SSLError) as error:
            raise Unreachable(f"{self.origin.url} cannot be reached: {error}") from None
        self._all.add(connection)
        return connection

    def _new_connection(self, loop: asyncio.AbstractEventLoop) -> Connection:
        return Connection(
            loop,
            self.origin.url,
            body_cap_bytes=self._body_cap_bytes,
            idle_s=self._idle_s,
            on_free=self._idle.append,
            on_lost=self._forget,
        )

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
