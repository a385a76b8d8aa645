"""Server-sent events as the pool sends them, read from whatever pieces they come in (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["read_events"]

_LINE_BYTES = 1 << 20
_BEGINNING = re.compile(rb": moorage cursor=([0-9]{1,18})")


def read_events(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Each event's data with its number as `id`. First, where the gateway says so, `{"id": N}`: what comes is after N.

    Raises ValueError for what is no such stream.
    """
    number: int | None = None
    data: list[bytes] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield _event(number, b"\n".join(data))
            data = []
            continue
        began = _BEGINNING.fullmatch(line)
        if began:
            yield {"id": int(began[1])}
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"id":
            number = int(value)
        elif name == b"data":
            data.append(value)


def _event(number: int | None, data: bytes) -> dict[str, Any]:
    fields = json.loads(data)
    if number is None or not isinstance(fields, dict):
        raise ValueError("an event without a number or without fields")
    return {"id": number, **fields}


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise ValueError("a line without an end")
        for line in whole:
            yield line.removesuffix(b"\r")
