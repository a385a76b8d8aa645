"""A chat stream's frames, read back into chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

__all__ = ["chunks_of"]

DONE = b"[DONE]"


async def chunks_of(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[dict[str, Any] | None, None]:
    """Each chunk, and None for the `[DONE]` that a whole stream ends with. Frames may be cut anywhere."""
    held = b""
    async for piece in frames:
        held = (held + piece).replace(b"\r\n", b"\n")
        *whole, held = held.split(b"\n\n")
        for frame in whole:
            data = _data(frame)
            if data == DONE:
                yield None
            elif data:
                yield msgspec.json.decode(data)


def _data(frame: bytes) -> bytes:
    lines = [line[5:].lstrip() for line in frame.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
