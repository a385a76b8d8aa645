"""The ASGI application: reads a request, finds its handler, sends what it answers, tells faults once.

Raw ASGI: a framework costs a quarter of the CPU of a call that passes through, and adds nothing here.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from moorage.gateway.faults import ClientGone, Fault, Shape, UpstreamError, reply_of
from moorage.gateway.paths import Route, find_route
from moorage.gateway.reply import Reply, Stream
from moorage.gateway.request import Receive, Request, Scope, Send, read_request

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["App"]


class App:
    """The gateway as an ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        began = time.perf_counter()
        request_id = _given_id(scope) or self._gateway.new_id()
        route: Route | None = None
        self._gateway.metrics.in_flight += 1
        status = 499
        try:
            route, params = find_route(scope["method"], scope["path"])
            status = await self._answer(route, params, scope, receive, send, request_id)
        except ClientGone:
            self._gateway.log.info("client_gone", request_id=request_id, path=scope["path"])
        except Exception as fault:
            status = await self._tell(fault, route.shape if route else "openai", request_id, scope, send)
        finally:
            self._gateway.metrics.in_flight -= 1
            name = route.name if route else "unknown"
            self._gateway.metrics.answered(name, status, time.perf_counter() - began)
            self._gateway.log.access(request_id, scope["method"], scope["path"], status, began)

    async def _answer(
        self, route: Route, params: dict[str, str], scope: Scope, receive: Receive, send: Send, request_id: str
    ) -> int:
        limit = self._gateway.settings.max_body_bytes
        request = await read_request(scope, receive, limit_bytes=limit, request_id=request_id)
        request.params = params
        outcome = await route.handler(self._gateway, request)
        if isinstance(outcome, Stream):
            return await _send_stream(outcome, request, send)
        await _send(outcome, request_id, send)
        return outcome.status

    async def _tell(self, fault: Exception, shape: Shape, request_id: str, scope: Scope, send: Send) -> int:
        reply = reply_of(fault, shape)
        if not isinstance(fault, Fault | UpstreamError) and reply.status >= 500:
            self._gateway.log.fault(fault, request_id=request_id, path=scope["path"])
        with contextlib.suppress(OSError, RuntimeError):  # a reply had begun, or nobody listens any more
            await _send(reply, request_id, send)
        return reply.status

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._gateway.start()
        except Exception as fault:
            self._gateway.log.fault(fault, request_id="", path="startup")
            await send({"type": "lifespan.startup.failed", "message": str(fault)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._gateway.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _send(reply: Reply, request_id: str, send: Send) -> None:
    headers: list[Any] = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode("latin-1")),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_stream(stream: Stream, request: Request, send: Send) -> int:
    """Frames as they come. The work behind them ends when the client goes: its generator is closed."""
    headers = [
        (b"content-type", stream.content_type),
        (b"x-request-id", request.id.encode("latin-1")),
        (b"cache-control", b"no-cache"),
        *stream.headers,
    ]

    async def pump() -> None:
        await send({"type": "http.response.start", "status": stream.status, "headers": headers})
        async for frame in stream.frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})

    try:
        await request.while_connected(pump())
    finally:
        await stream.close()
    await send({"type": "http.response.body", "body": b""})
    return stream.status


def _given_id(scope: Scope) -> str | None:
    """The caller's own id, when it is a plain one."""
    for key, value in scope["headers"]:
        if key == b"x-request-id":
            text = str(value, "latin-1")
            return text if 0 < len(text) <= 128 and text.isprintable() and text.isascii() else None
    return None
