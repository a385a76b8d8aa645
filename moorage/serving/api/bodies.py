"""Reading what a client sends: never more than is allowed, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from moorage.serving.api.problems import Problem
from moorage.serving.spec.document import BODY_BYTES, read_document

__all__ = ["LARGEST_BYTES", "PATIENCE_S", "document_of", "read_body"]

LARGEST_BYTES = BODY_BYTES
PATIENCE_S = 30.0
"""For a body to come."""


async def read_body(request: Request) -> bytes:
    """All of it. Raises Problem 413 for more than LARGEST_BYTES, 408 when it does not come."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 12 or int(declared) > LARGEST_BYTES):
        raise _too_large()
    pieces = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for piece in request.stream():
                pieces += piece
                if len(pieces) > LARGEST_BYTES:
                    raise _too_large()
    except TimeoutError as fault:
        headers = {"Connection": "close"}
        problem = Problem(408, f"the body did not come within {PATIENCE_S:g} s", code="body_slow", headers=headers)
        raise problem from fault
    except ClientDisconnect as fault:
        raise Problem(400, "the body broke off", code="body_broken") from fault
    return bytes(pieces)


def document_of(request: Request, content: bytes, *, patch: bool = False, may_be_empty: bool = False) -> dict[str, Any]:
    """The one mapping in a body. `may_be_empty`: no body at all is an empty one. Raises SpecError."""
    if may_be_empty and not content.strip():
        return {}
    return read_document(content, ",".join(request.headers.getlist("content-type")) or None, patch=patch)


def _too_large() -> Problem:
    return Problem(413, f"the body has more than {LARGEST_BYTES} bytes", code="body_too_large")
