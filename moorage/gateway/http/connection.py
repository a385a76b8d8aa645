"""One client's connection: HTTP/1.1 in, replies out, over asyncio alone.

A general server costs as much CPU a call as everything else that a gateway does, so this is our own, small one. The
parser is llhttp (httptools), which refuses what requests are smuggled with. Requests of one connection are answered in
turn; what comes meanwhile waits, up to a limit. The end of the client's stream counts as its leaving, as for nginx.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import httptools

from moorage.gateway.http.faults import BodyTooLarge, Fault
from moorage.gateway.http.head import TOO_MANY, head_of
from moorage.gateway.http.patience import Late, late_body, late_head, late_reader
from moorage.gateway.http.reply import Reply
from moorage.gateway.http.request import Request

if TYPE_CHECKING:
    from moorage.gateway.http.app import App
    from moorage.gateway.http.listener import Listener

__all__ = ["Connection"]

HEAD_BYTES = 64 * 1024
"""A request's line and headers together."""
HEADERS = 100
FRAMING_SHARE = 16
"""Bytes of chunk sizes and trailers for each byte of a body: with a byte in each chunk there are five."""
LINGER_S = 2.0
WAITING_REQUESTS = 64
"""Parsed and not begun, of one connection; then it is not read from until some are answered."""
WAITING_BYTES = 1024 * 1024
"""The same, of their bodies."""
WHOLE_BYTES = 64 * 1024
"""A body up to this is copied to its head, so that both go out at once."""


class Connection(asyncio.Protocol):
    """Made for each client that connects; httptools calls the `on_…` methods."""

    __slots__ = (
        "_app",
        "_began_at",
        "_body",
        "_body_bytes",
        "_closing",
        "_given_up",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_keep_alive",
        "_listener",
        "_loop",
        "_named",
        "_parser",
        "_read_at",
        "_request",
        "_streams",
        "_target",
        "_transport",
        "_unread_bytes",
        "_waiting",
        "_waiting_bytes",
        "_writable",
        "heard_at",
    )

    def __init__(self, app: App, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._listener = listener
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # made before anything else is called
        self._request: Request | None = None
        """The one being answered."""
        self._waiting: deque[Request] | None = None
        """Those that came meanwhile; None: none ever did."""
        self._waiting_bytes = 0
        self._given_up = False
        """A request was refused before it had come: nothing more is read, and it is the connection's last."""
        self._writable: asyncio.Future[None] | None = None
        self._streams: Request | None = None
        """The last one whose reply was begun as a stream."""
        self._keep_alive = True
        self._closing = False
        self.heard_at = loop.time()
        """When something came or went, of `loop.time`, as all times here."""
        self._began_at = self.heard_at
        """When the first byte of the request came that is not whole yet."""
        self._unread_bytes = 0
        """What the client had not taken of replies when it was last looked at."""
        self._read_at = self.heard_at
        """When it was seen to take some."""
        self._reset()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its reply on its way."""
        return self._request is not None or self._transport.get_write_buffer_size() > 0

    @property
    def address(self) -> str:
        """The client's, as the system has it; empty when it is known no more."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    def close_soon(self) -> None:
        """Answer what is in hand and what comes just now, and say that it is the last."""
        self._keep_alive = False
        for request in (self._request, *(self._waiting or ())):
            if request is not None:
                request.keep_alive = False

    def close_when_idle(self) -> None:
        """Answer what is in hand, then close."""
        self._closing = True
        if self._request is None and not self._waiting:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        if not self._listener.take(self):
            self._given_up = self._closing = True
            self._transport.write(TOO_MANY)
            self._linger()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._listener.lost(self)
        self._waiting = None
        self._closing = True
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._request is not None:
            self._request.leave()

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        if self._given_up:
            return
        if not self._head_bytes:
            self._began_at = self.heard_at
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep_alive = False  # the upgrade is declined by answering as if it had not been asked for
        except httptools.HttpParserError as fault:
            self._refuse(400, f"no HTTP/1.1 request: {fault}", "http_wrong")
        else:
            if self._head_bytes > HEAD_BYTES:
                self._check_size()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        if self._request is None:
            self._begin_next()

    # httptools

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: nothing that we read
        name = name.lower()
        self._headers.append((name, value))
        self._named.setdefault(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self._headers) > HEADERS:
            self._refuse(431, f"there are more than {HEADERS} headers", "headers_too_large")
            return
        announced, limit = self._named.get(b"content-length", b""), self._app.body_limit_bytes
        if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
            self._give_up(BodyTooLarge(int(announced), limit))
        elif b"expect" in self._named and self._expects() and not self._closing:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._given_up:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._app.body_limit_bytes:
            self._give_up(BodyTooLarge(self._body_bytes, self._app.body_limit_bytes))
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._closing or self._given_up:
            return
        method = self._parser.get_method().decode("latin-1")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(method, self._target, self._headers, body, self._named)
        request.from_page = b"origin" in self._named
        request.keep_alive = self._parser.should_keep_alive() and self._keep_alive
        request.chunks = self._parser.get_http_version() == "1.1"
        self._reset()
        if self._request is not None or self._writable is not None:
            self._queue(request)
            return
        self._begin(request)

    # Replies

    def send(self, request: Request, reply: Reply) -> None:
        """A whole reply."""
        body = b"" if request.method == "HEAD" else reply.body
        head = self._head(request, reply, b"content-length: %d" % len(reply.body))
        if len(body) <= WHOLE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def begin_stream(self, request: Request, reply: Reply) -> None:
        """The head of a reply whose frames follow; `reply.body` is not sent."""
        if not request.chunks:
            request.keep_alive = False
        self._streams = request
        length = b"transfer-encoding: chunked" if request.chunks else b"connection: close"
        self._transport.write(self._head(request, reply, length))

    async def send_frame(self, request: Request, frame: bytes) -> None:
        """One frame; waits while the client does not read."""
        self.heard_at = self._loop.time()
        self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame) if request.chunks else frame)
        if self._writable is not None:
            await self._writable

    def end_stream(self, request: Request) -> None:
        """After the last frame."""
        if request.chunks:
            self._transport.write(b"0\r\n\r\n")

    def break_off(self, request: Request) -> None:
        """A stream that ends without its end: the client sees a broken reply, not a short one."""
        request.keep_alive = False

    def streaming(self, request: Request) -> bool:
        """Whether the head of a stream went out for this request."""
        return self._streams is request

    def answered(self, request: Request) -> None:
        """The request is over: the next one, if there is one."""
        self.heard_at = self._loop.time()
        self._request = None
        if request.fault is not None and self._given_up and not self._closing:
            self._linger()
            return
        if self._closing or not request.keep_alive:
            self._transport.close()
        elif self._waiting and self._writable is None:
            self._begin_next()

    # Time

    def look(self, now: float, *, client_s: float, idle_s: float) -> Late | None:
        """What the client has taken too long for, if anything: then the connection ends. Called every few seconds."""
        unread_bytes = self._transport.get_write_buffer_size()
        if unread_bytes != self._unread_bytes:
            self._unread_bytes, self._read_at = unread_bytes, now
        if unread_bytes:
            late = late_reader(now - self._read_at, client_s=client_s)
        elif self._request is not None or self._given_up:
            return None
        elif self._head_bytes and self._in_head:
            late = late_head(now - self._began_at, client_s=client_s)
        elif not self._in_head:
            came_for_s, silent_s = now - self._began_at, now - self.heard_at
            late = late_body(came_for_s, silent_s, self._body_bytes, client_s=client_s)
        else:
            late = "idle" if now - self.heard_at > idle_s else None
        self._end_for(late)
        return late

    def _end_for(self, late: Late | None) -> None:
        if late == "reader":
            self.abort()
        elif late == "head":
            self._refuse(408, "the request's line and headers did not come", "request_timeout")
        elif late == "body":
            self._give_up(Fault(408, "the request's body did not come", code="request_timeout"))
        elif late == "idle":
            self._transport.close()

    # Helpers

    def _check_size(self) -> None:
        """What came of a request, or what surrounds its body, is a lot."""
        if self._in_head:
            self._refuse(431, f"line and headers have more than {HEAD_BYTES} bytes", "headers_too_large")
        elif self._head_bytes > 2 * HEAD_BYTES + FRAMING_SHARE * self._body_bytes:
            self._refuse(400, "no HTTP/1.1 request: its chunks are nearly empty, or its trailers endless", "http_wrong")

    def _queue(self, request: Request) -> None:
        """It waits for those before it; when many do, no more is read."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(request)
        self._waiting_bytes += len(request.body)
        many = len(self._waiting) >= WAITING_REQUESTS or self._waiting_bytes > WAITING_BYTES
        if many and not self._transport.is_closing():
            self._transport.pause_reading()

    def _begin_next(self) -> None:
        if not self._waiting:
            return
        following = self._waiting.popleft()
        self._waiting_bytes -= len(following.body)
        if not self._closing:
            self._transport.resume_reading()
        self._begin(following)

    def _begin(self, request: Request) -> None:
        self._request = request
        request.task = self._loop.create_task(self._app.answer(request, self))

    def _expects(self) -> bool:
        return any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers)

    def _head(self, request: Request, reply: Reply, length: bytes) -> bytes:
        if self._closing or not request.keep_alive:
            request.keep_alive = False
        return head_of(reply, length, request.id, last=not request.keep_alive)

    def _refuse(self, status: int, message: str, code: str) -> None:
        """What is no request at all."""
        if not self._given_up:
            self._target = b"/"
            self._headers.clear()
            self._give_up(Fault(status, message, code=code), method="GET")

    def _give_up(self, fault: Fault, method: str | None = None) -> None:
        """Answer what has not come whole, in its turn, and be done with the connection."""
        if self._closing or self._given_up:
            return
        self._given_up = True
        request = Request(method or self._parser.get_method().decode("latin-1"), self._target, self._headers, b"")
        request.keep_alive = False
        request.fault = fault
        if self._request is not None or self._writable is not None:
            self._queue(request)
        else:
            self._begin(request)

    def _linger(self) -> None:
        """Let the client, which may be sending still, read the reply: a close at once would reset it away."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(LINGER_S, self._transport.abort)

    def _reset(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._named: dict[bytes, bytes] = {}
        """The first header of each name."""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True
