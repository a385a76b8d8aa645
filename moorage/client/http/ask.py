"""One request to a gateway and how its reply is read: made by pure functions, sent by either transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from moorage.errors import FailedError

__all__ = ["Ask", "Reply", "json_of", "reads", "value_of"]

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of status 2xx."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Generic[T]):
    """What to send. `path` begins with a slash."""

    method: str
    path: str
    read: Callable[[Reply], T]
    """Raises FailedError for what no gateway answers."""
    content: bytes | None = None
    """JSON."""
    params: Mapping[str, str | int | float] | None = None
    headers: Mapping[str, str] | None = None
    repeatable: bool = False
    """Sending it twice does no harm: it may be sent again when nobody knows whether it arrived."""
    done_when_repeated: Mapping[str, T] = field(default_factory=dict)
    """Codes of errors that, on a repetition, mean that the first one did arrive, and the value then."""
    timeout_s: float | None = None
    """Seconds without a byte; None: the client's own."""
    once: bool = False
    """It is sent once, whatever happens: its answer is of use now or not at all."""


def value_of(kind: type[K]) -> Callable[[Reply], K]:
    """A reader of JSON as `kind`."""

    def read(reply: Reply) -> K:
        try:
            return msgspec.json.decode(reply.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise _unreadable(fault) from None

    return read


def json_of(reply: Reply) -> Any:
    """The reply's JSON as plain values."""
    try:
        return msgspec.json.decode(reply.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise _unreadable(fault) from None


def reads(field: str) -> Callable[[Reply], Any]:
    """A reader of one field of an object."""

    def read(reply: Reply) -> Any:
        said = json_of(reply)
        if not isinstance(said, dict) or field not in said:
            raise _unreadable(f"there is no {field}")
        return said[field]

    return read


def _unreadable(fault: object) -> FailedError:
    return FailedError(
        f"the reply is not a gateway's: {fault}",
        code="bad_reply",
        hint="another program, or another version, may listen there",
    )
