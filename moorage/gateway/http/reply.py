"""What a handler answers: a whole body, or frames as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

__all__ = ["Headers", "Reply", "Stream", "json_reply"]

Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"


class Reply:
    """A whole reply. `headers` come on top of content-type and content-length."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers = ()) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


class Stream:
    """A reply of which the status is known and the frames are not yet.

    `at_end` is called once when it is over, however it ended; also when no frame was ever taken.
    """

    __slots__ = ("at_end", "content_type", "frames", "headers", "status")

    def __init__(
        self, status: int, frames: AsyncGenerator[bytes, None], content_type: bytes = EVENTS, headers: Headers = ()
    ) -> None:
        self.status = status
        self.frames = frames
        self.content_type = content_type
        self.headers = headers
        self.at_end: list[Callable[[], None]] = []

    async def close(self) -> None:
        """End the work behind it."""
        await self.frames.aclose()
        ends, self.at_end = self.at_end, []
        for end in ends:
            end()


def json_reply(value: Any, status: int = 200) -> Reply:
    """`value` as JSON."""
    return Reply(status, msgspec.json.encode(value))
