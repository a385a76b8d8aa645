"""One connection to an upstream, kept alive: it sends a request and receives its reply, one at a time.

The parser is llhttp in its strict mode: conflicting or repeated lengths, bare line feeds and a second reply that nobody
asked for are errors, and an error closes the connection. Replies whose end is the connection's end are taken, but never
from a connection that is used again.

One timer a connection watches both how long it may idle and how long an upstream may be silent. It is not touched per
request: it looks at the time of the last byte whenever it rings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from moorage.engines.wire.exchange import Exchange
from moorage.engines.wire.faults import Broken, Silent
from moorage.engines.wire.request import HOP_BY_HOP
from moorage.errors import MoorageError

__all__ = ["Connection"]

HEAD_CAP_BYTES = 64 * 1024
PAUSE_ABOVE_BYTES = 256 * 1024
"""Received for a slow consumer before the upstream is made to wait."""
NOT_PASSED_ON = HOP_BY_HOP | {b"content-length"}


class Connection(asyncio.Protocol):
    """`on_free` is called when it can take another request, `on_lost`, perhaps twice, when it cannot any more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        place: str,
        *,
        body_cap_bytes: int,
        idle_s: float,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._place = place
        self._body_cap_bytes = body_cap_bytes
        self._idle_s = idle_s
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._ends_with_connection = True
        self._paused = False
        self._last_byte_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self.used = False
        """Whether it has carried a reply before: only then can it be stale."""

    # What callers do.

    def send(self, head: bytes, body: bytes, exchange: Exchange) -> None:
        """Begin a request; its reply goes to `exchange`."""
        self._exchange = exchange
        transport = self._transport
        if transport is None:
            exchange.fail(self._broken("closed the connection", nothing_came=True))
            return
        self._last_byte_s = self._loop.time()
        self._watch(exchange.silence_s)
        transport.write(head + body if body else head)

    def read_on(self) -> None:
        """The consumer has taken what there was."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._last_byte_s = self._loop.time()
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, without a word; an engine that notices stops generating."""
        self._on_lost(self)  # now: the transport tells only in the loop's next round
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._last_byte_s = self._loop.time()

    def data_received(self, data: bytes) -> None:
        self._last_byte_s = self._loop.time()
        exchange = self._exchange
        if exchange is None:
            self._fail(self._broken("sent a reply that nobody asked for"))
            return
        if exchange.status == 0:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            fault = cause if isinstance(cause, MoorageError) else self._broken(f"sent what is not HTTP/1.1: {error}")
            self._fail(fault)
            return
        if exchange.status == 0 and self._head_bytes > HEAD_CAP_BYTES:
            self._fail(self._broken(f"sent a head of more than {HEAD_CAP_BYTES} bytes"))
        elif exchange.streamed and exchange.pieces:
            exchange.wake()
            if exchange.size_bytes > PAUSE_ABOVE_BYTES and not exchange.finished and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is not None and exchange.status and self._ends_with_connection:
            self._exchange = None
            exchange.finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - what became of the reply says it all
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_lost(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            nothing_came = exchange.status == 0 and self._head_bytes == 0
            when = "before it answered" if nothing_came else "in the middle of its reply"
            exchange.fail(self._broken(f"closed the connection {when}", nothing_came=nothing_came))

    # What the parser finds.

    def on_message_begin(self) -> None:
        self._headers = []
        self._ends_with_connection = True
        if self._exchange is None:
            raise self._broken("sent a reply that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.status:
            return  # a trailer: nothing that we pass on
        name = name.lower()
        if name == b"content-length":
            self._ends_with_connection = False
            if int(value) > self._body_cap_bytes and not exchange.streamed:
                raise self._too_big()
        elif name == b"transfer-encoding":
            self._ends_with_connection = False
            if value.lower() != b"chunked":
                raise self._broken("sent a body in a transfer encoding that was not asked for")
        if name not in NOT_PASSED_ON:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        exchange = self._exchange
        if status < 200 or exchange is None:
            return
        exchange.status = status
        exchange.headers = self._headers
        if exchange.streamed:
            exchange.wake()

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.pieces.append(body)
        exchange.size_bytes += len(body)
        if exchange.size_bytes > self._body_cap_bytes and not exchange.streamed:
            raise self._too_big()

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.status == 0:
            return  # an interim reply (1xx)
        self._exchange = None
        self._head_bytes = 0
        self.used = True
        exchange.finish()
        transport = self._transport
        if transport is None:
            return
        if self._paused:
            self._paused = False
            transport.resume_reading()
        if self._parser.should_keep_alive() and not transport.is_closing():
            self._on_free(self)
        else:
            transport.close()

    # Time.

    def _watch(self, silence_s: float) -> None:
        """See to it that the timer rings in time for this silence."""
        due_s = self._last_byte_s + min(silence_s, self._idle_s)
        if self._timer is None or self._timer_due_s > due_s:
            self._ring_at(due_s)

    def _ring_at(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._loop.call_at(due_s, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        exchange = self._exchange
        if self._paused:
            self._last_byte_s = now_s  # it is our consumer that is slow
        due_s = self._last_byte_s + (self._idle_s if exchange is None else exchange.silence_s)
        # Timers of the loop are exact to a millisecond and may ring that much early.
        if now_s + 0.002 < due_s:
            self._ring_at(min(due_s, now_s + self._idle_s))
        elif exchange is None:
            self.close()
        else:
            self._fail(
                Silent(f"{self._place} sent nothing for {exchange.silence_s:g} s", hint="see --upstream-timeout")
            )

    # Faults.

    def _fail(self, fault: MoorageError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.fail(fault)
        self.abort()

    def _broken(self, what: str, *, nothing_came: bool = False) -> Broken:
        return Broken(f"{self._place} {what}", nothing_came=nothing_came)

    def _too_big(self) -> Broken:
        return Broken(
            f"{self._place} sent a body of more than {self._body_cap_bytes} bytes", code="upstream_reply_too_big"
        )
