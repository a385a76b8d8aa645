"""Replies as bytes, made without a detour over a model of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

__all__ = ["json_reply", "no_content"]


def json_reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`data`: of dicts, lists, text and numbers. What a user is shown is for nobody else: no cache keeps it."""
    return Response(
        msgspec.json.encode(data), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json"
    )


def no_content() -> Response:
    """204."""
    return Response(status_code=204)
