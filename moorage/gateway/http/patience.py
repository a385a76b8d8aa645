"""How long a client may take: pure, over what has come and gone. All times are seconds, all sizes bytes."""

from __future__ import annotations

from typing import Literal

__all__ = ["Late", "late_body", "late_head", "late_reader"]

Late = Literal["reader", "head", "body", "idle"]
"""`reader`: it takes nothing of a reply; `head`, `body`: a request that does not come; `idle`: no request at all."""

BODY_BYTES_PER_S = 1000
"""A body that comes slower than this for long is one that is never meant to end."""


def late_reader(still_s: float, *, client_s: float) -> Late | None:
    """`still_s`: since the client was seen to take some of a reply."""
    return "reader" if still_s > client_s else None


def late_head(came_for_s: float, *, client_s: float) -> Late | None:
    """`came_for_s`: since the first byte of the request. More bytes do not help: a head is small."""
    return "head" if came_for_s > client_s else None


def late_body(came_for_s: float, silent_s: float, body_bytes: int, *, client_s: float) -> Late | None:
    """`silent_s`: since the last byte. A body may take long when it is long, and keeps coming."""
    slow = came_for_s > client_s + body_bytes / BODY_BYTES_PER_S
    return "body" if slow or silent_s > client_s else None
