"""Server-sent events, as OpenAI's streams use them."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.errors import MoorageError
from moorage.gateway.http.faults import reply_of

__all__ = ["DONE", "error_frame", "frame"]

DONE = b"data: [DONE]\n\n"


def frame(value: Any) -> bytes:
    """One event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def error_frame(fault: MoorageError) -> bytes:
    """How a stream that has begun tells a fault: an error event, and no `[DONE]` after it."""
    return b"data: " + reply_of(fault, "openai").body + b"\n\n"
