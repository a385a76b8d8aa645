"""What a protocol needs to be spoken: a reader of requests, and writers of whole replies, streams and faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from moorage.gateway.http.faults import BodyWrong, Fault
from moorage.gateway.http.request import Request

__all__ = ["Dialect", "EventWriter", "Fields", "event", "one_of_types", "read_fields"]

Fields = dict[str, Any]
"""A JSON object."""


class EventWriter(Protocol):
    """Tells the chunks of one chat stream as events."""

    def feed(self, chunk: Fields) -> list[bytes]:
        """The events of one chat chunk."""

    def end(self) -> list[bytes]:
        """The events after the last chunk: the call is durable then."""

    def fault(self, message: str, code: str) -> list[bytes]:
        """How a stream that has begun tells a fault, and that it ends with it."""


class Dialect(NamedTuple):
    """One protocol. `asked` is the request as its client wrote it."""

    to_chat: Callable[[Fields], Fields]
    """A chat request. Raises BodyWrong and Fault (400)."""
    whole: Callable[[Fields, Fields], Fields]
    """(chat reply, asked) → the reply."""
    writer: Callable[[Fields], EventWriter]
    """For a streamed reply to `asked`."""


def read_fields(request: Request) -> Fields:
    """The body, an object. Raises BodyNotJson and BodyWrong."""
    return request.decode(Fields)


def one_of_types(value: Any, kind: Any, pointer: str) -> Any:
    """`value` as `kind` (msgspec's conversion). Raises BodyWrong, which names the place from `pointer` on."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as fault:
        wrong = BodyWrong.of(str(fault))
        raise BodyWrong(wrong.message, pointer + (wrong.param or "")) from None
    except RecursionError:
        raise Fault(400, "the body is nested too deeply", code="body_wrong", param=pointer) from None


def event(name: str, data: Fields) -> bytes:
    """One server-sent event with a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), msgspec.json.encode(data))
