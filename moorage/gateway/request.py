"""One HTTP request, read whole, and whether its client is still there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from moorage.gateway.faults import BodyNotJson, BodyTooLarge, BodyWrong, ClientGone

__all__ = ["Receive", "Request", "Scope", "Send", "read_request"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

WATCH_AFTER_S = 0.2
"""A call that answers sooner is not watched: watching costs a task."""


class Request:
    """What a handler is given. Header names are lower case, values text (latin-1, as HTTP has it)."""

    __slots__ = ("_gone", "_receive", "body", "id", "method", "params", "path", "scope")

    def __init__(self, scope: Scope, receive: Receive, body: bytes, request_id: str) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.body = body
        self.id = request_id
        self.params: Mapping[str, str] = {}
        self._receive = receive
        self._gone = False

    def header(self, name: bytes) -> str | None:
        """The first value of a header, or None."""
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value, "latin-1")
        return None

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of one given twice the last counts."""
        return dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))

    def decode(self, kind: type[T], *, empty: bytes | None = None) -> T:
        """The body as `kind`. `empty`: what a missing body means; None: a body is required.

        Raises BodyNotJson (400) and BodyWrong (422), the latter with a JSON pointer to what is wrong.
        """
        return self.decode_part(self.body if self.body.strip() or empty is None else empty, kind)

    def decode_part(self, raw: bytes, kind: type[T]) -> T:
        """The same for a part of the body."""
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.ValidationError as fault:
            raise BodyWrong.of(str(fault)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            if _has_nan(raw):
                raise BodyWrong("NaN and Infinity are no JSON numbers") from None
            raise BodyNotJson(f"the body is not JSON: {fault}") from None

    async def while_connected(self, work: Awaitable[T]) -> T:
        """The result of `work`, cancelled when the client goes away: ClientGone."""
        if self._gone:
            raise ClientGone
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - a handler always runs in one
            return await work
        watcher: list[asyncio.Task[None]] = []
        timer = loop.call_later(WATCH_AFTER_S, lambda: watcher.append(loop.create_task(self._watch(task))))
        try:
            return await work
        except asyncio.CancelledError:
            if not self._gone:
                raise
            task.uncancel()
            raise ClientGone from None
        finally:
            timer.cancel()
            for one in watcher:
                one.cancel()

    async def _watch(self, task: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        task.cancel()


async def read_request(scope: Scope, receive: Receive, *, limit_bytes: int, request_id: str) -> Request:
    """The whole request. Raises BodyTooLarge, before reading where the length is announced, and ClientGone."""
    announced = next((value for key, value in scope["headers"] if key == b"content-length"), b"0")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise BodyTooLarge(int(announced), limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit_bytes:
                raise BodyTooLarge(size, limit_bytes)
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise ClientGone
    return Request(scope, receive, body, request_id)


def _has_nan(raw: bytes) -> bool:
    """JSON but for NaN or Infinity, which Python's own encoder writes."""
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True
