"""The key that a request shows: `Authorization: Bearer KEY`, or `x-api-key: KEY` as Anthropic's clients send it."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.gateway.auth.refusals import several_keys

__all__ = ["OF_SESSIONS", "key_shown"]

OF_SESSIONS = b"moor_session_"
"""How the key of a session begins."""


def key_shown(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The key; None when none is shown. `headers`: names in lower case.

    The same key twice is one. Two different ones raise a Fault of 401: which is meant nobody can tell, and what stands
    before the gateway may have looked at the other one. Another scheme than Bearer is somebody else's affair.
    """
    shown: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            key = value[7:] if value[:7] == b"Bearer " else _bearer(value)
        elif name == b"x-api-key":
            key = value
        else:
            continue
        key = key.strip()
        if not key:
            continue
        if shown is not None and shown != key:
            raise several_keys()
        shown = key
    return shown


def _bearer(value: bytes) -> bytes:
    scheme, _, key = value.strip().partition(b" ")
    return key if scheme.lower() == b"bearer" else b""
