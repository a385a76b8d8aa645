"""Replies of the pool as Arrow streams, for those who ask for them by `Accept`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec

from moorage.errors import PreflightError
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Reply
from moorage.gateway.http.request import Request
from moorage.pool import arrow

__all__ = ["arrow_reply", "wants_arrow"]

Given = ParamSpec("Given")

_VARY = ((b"vary", b"accept"),)


async def wants_arrow(request: Request) -> bool:
    """Whether the reply is to be a table. Raises a Fault of 406 where nothing else will do and pyarrow is missing."""
    accept = request.header(b"accept")
    if accept is None or arrow.CONTENT_TYPE not in accept.lower():
        return False
    table, text = _qualities(accept)
    if table <= 0 or table < text:
        return False
    try:
        await asyncio.to_thread(arrow.need_pyarrow)  # the first time it takes a good part of a second
    except PreflightError as fault:
        if text > 0:
            return False
        raise Fault(406, fault.message, code="package_missing") from fault
    return True


async def arrow_reply(make: Callable[Given, bytes], *given: Given.args, **named: Given.kwargs) -> Reply:
    """What `make` makes of it, made in a thread: it copies megabytes."""
    stream = await asyncio.to_thread(make, *given, **named)
    return Reply(200, stream, arrow.CONTENT_TYPE.encode(), _VARY)


def _qualities(accept: str) -> tuple[float, float]:
    """How much a table and how much JSON is wanted, 0 to 1; a table is wanted only by its own name."""
    table = text = 0.0
    for part in accept.lower().split(","):
        name, *params = (one.strip() for one in part.split(";"))
        quality = 1.0
        for param in params:
            if param.startswith("q="):
                quality = _number(param[2:])
        if name == arrow.CONTENT_TYPE:
            table = max(table, quality)
        elif name == "application/json":
            text = max(text, quality)
        elif name in ("*/*", "application/*"):
            text = max(text, min(quality, 0.001))  # whoever names one kind and adds "anything" prefers what is named
    return table, text


def _number(value: str) -> float:
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0
