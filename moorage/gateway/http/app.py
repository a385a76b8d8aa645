"""Answering: finds a request's handler, sends what it returns, tells faults once, counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from moorage.gateway.http.faults import ClientGone, Fault, Shape, UpstreamError, reply_of
from moorage.gateway.http.paths import Route, check_uids, find_route, shape_of
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.request import Request

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.http.connection import Connection

__all__ = ["App"]

CLIENT_GONE = 499
"""nginx's number for a client that went away: only logs and metrics have it."""


class App:
    """What connections hand their requests to."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.body_limit_bytes = gateway.settings.max_body_bytes

    async def answer(self, request: Request, connection: Connection) -> None:
        """Answer one request. Raises nothing: whatever goes wrong is told or logged here."""
        gateway = self._gateway
        began = time.perf_counter()
        request.id = _given_id(request) or gateway.new_id()
        gateway.metrics.in_flight += 1
        route: Route | None = None
        called = False
        status = CLIENT_GONE
        try:
            route, request.params = find_route(request.method, request.path)
            if (unsure := gateway.door.admit(route, request, connection)) is not None:
                await unsure
            if request.fault is not None:
                raise request.fault
            check_uids(route, request.params)
            if route.calls:
                gateway.gate.enter()
                called = True
            outcome = await route.handler(gateway, request)
            if not isinstance(outcome, Reply):
                await self._stream(request, outcome, connection)
            elif request.gone:
                raise ClientGone
            else:
                connection.send(request, outcome)
            status = outcome.status
        except ClientGone:
            gateway.log.info("client_gone", request_id=request.id, path=request.path)
        except Exception as fault:
            shape = route.shape if route else shape_of(request.path)
            status = self._tell(request.fault or fault, shape, request, connection)
        finally:
            gateway.metrics.in_flight -= 1
            if called:
                gateway.gate.leave()
            gateway.metrics.answered(route.name if route else "unknown", status, time.perf_counter() - began)
            gateway.log.access(request, status, began)
            connection.answered(request)

    async def _stream(self, request: Request, stream: Stream, connection: Connection) -> None:
        async def pump() -> None:
            async for frame in stream.frames:
                await connection.send_frame(request, frame)

        head = Reply(stream.status, b"", stream.content_type, ((b"cache-control", b"no-cache"), *stream.headers))
        try:
            if request.gone:
                raise ClientGone
            connection.begin_stream(request, head)
            await request.while_connected(pump())
            connection.end_stream(request)
        except BaseException:
            connection.break_off(request)
            raise
        finally:
            await stream.close()

    def _tell(self, fault: Exception, shape: Shape, request: Request, connection: Connection) -> int:
        reply = reply_of(fault, shape)
        if not isinstance(fault, Fault | UpstreamError) and reply.status >= 500:
            self._gateway.log.fault(fault, request_id=request.id, path=request.path)
        if request.gone:
            return CLIENT_GONE
        if not connection.streaming(request):
            connection.send(request, reply)
        return reply.status


def _given_id(request: Request) -> str | None:
    """The caller's own id, when it is a plain one."""
    text = request.header(b"x-request-id")
    return text if text and len(text) <= 128 and text.isprintable() and text.isascii() else None
