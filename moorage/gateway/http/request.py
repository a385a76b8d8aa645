"""One HTTP request, read whole, and whether its client is still there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec

from moorage.gateway.http.faults import BodyNotJson, BodyWrong, ClientGone, Fault

__all__ = ["Request", "decode_body"]

T = TypeVar("T")


class Request:
    """What a handler is given. Header names are lower case, values text (latin-1, as HTTP has it)."""

    __slots__ = (
        "_abortable",
        "_gone",
        "_named",
        "body",
        "chunks",
        "fault",
        "from_page",
        "headers",
        "id",
        "keep_alive",
        "method",
        "params",
        "path",
        "query_string",
        "task",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        named: dict[bytes, bytes] | None = None,
    ) -> None:
        """`target`: as the request line has it. `named`: the first header of each name; None: not looked for yet."""
        self.method = method
        self.path, self.query_string = _split(target)
        self.headers = headers
        self._named = dict(reversed(headers)) if named is None else named
        self.body = body
        self.id = ""
        """Of this request: in logs, in its reply's `x-request-id`."""
        self.params: Mapping[str, str] = {}
        """What stands in the path."""
        self.keep_alive = False
        self.chunks = True
        """The client takes a body in chunks."""
        self.fault: Fault | None = None
        """What is wrong with it as HTTP."""
        self.from_page = False
        """It has an Origin: a browser sends it for a page."""
        self.task: asyncio.Task[None] | None = None
        """That answers it."""
        self._gone = False
        self._abortable = False

    def header(self, name: bytes) -> str | None:
        """The first value of a header, or None."""
        value = self._named.get(name)
        return None if value is None else str(value, "latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of one given twice the last counts."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    def decode(self, kind: type[T], *, empty: bytes | None = None) -> T:
        """The body as `kind`. `empty`: what a missing body means; None: a body is required.

        Raises BodyNotJson (400) and BodyWrong (422), the latter with a JSON pointer to what is wrong.
        """
        return decode_body(self.body if self.body.strip() or empty is None else empty, kind)

    @property
    def gone(self) -> bool:
        """Whether the client has gone: nobody is there to be answered."""
        return self._gone

    async def while_connected(self, work: Awaitable[T]) -> T:
        """The result of `work`, cancelled when the client goes away: ClientGone.

        Nothing else is ever cancelled for that: what must be finished is awaited outside.
        """
        if self._gone:
            if asyncio.iscoroutine(work):
                work.close()
            raise ClientGone
        self._abortable = True
        try:
            return await work
        except asyncio.CancelledError:
            if not self._gone or self.task is None:
                raise
            self.task.uncancel()
            raise ClientGone from None
        finally:
            self._abortable = False

    def leave(self) -> None:
        """The client has gone."""
        self._gone = True
        if self._abortable and self.task is not None:
            self._abortable = False
            self.task.cancel()


def decode_body(raw: bytes, kind: type[T]) -> T:
    """JSON as `kind`. Raises BodyNotJson and BodyWrong."""
    try:
        value = msgspec.json.decode(raw, type=kind)
        if not raw.isascii():
            raw.decode()  # what `kind` has no field for was not looked at
    except msgspec.ValidationError as fault:
        raise BodyWrong.of(str(fault)) from None
    except RecursionError:
        raise BodyWrong("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        if _has_nan(raw):
            raise BodyWrong("NaN and Infinity are no JSON numbers") from None
        raise BodyNotJson(f"the body is not JSON: {fault}") from None
    return value


def _split(target: bytes) -> tuple[str, str]:
    """Path and query of a request line's target; a target with scheme and host (to a proxy) loses them."""
    text = target.decode("latin-1")
    if not text.startswith("/"):
        text = "/" + text.partition("://")[2].partition("/")[2]
    path, _, query = text.partition("?")
    return (unquote(path) if "%" in path else path), query


def _has_nan(raw: bytes) -> bool:
    """JSON but for NaN or Infinity, which Python's own encoder writes."""
    found: list[str] = []
    try:
        json.loads(raw.decode(), parse_constant=found.append)
    except (ValueError, RecursionError):
        return False
    return bool(found)
