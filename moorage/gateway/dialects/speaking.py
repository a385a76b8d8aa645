"""Speaking another protocol on a chat route: the request is turned into a chat, the outcome back again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from moorage.gateway.dialects.chunks import chunks_of
from moorage.gateway.dialects.dialect import Dialect, EventWriter, Fields, read_fields
from moorage.gateway.http.faults import UpstreamError
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.request import Request

__all__ = ["answer_in"]

BROKEN = ("The engine's stream ended before its end.", "upstream_broken")


async def answer_in(
    dialect: Dialect,
    request: Request,
    chat: Callable[[], Awaitable[Reply | Stream]],
    *,
    before: Callable[[Fields, Fields], Awaitable[Fields]] | None = None,
) -> Reply | Stream:
    """The reply of `chat`, which answers `request` as a chat, in the dialect.

    `before`: makes the final chat request of (chat request, request). Raises what `chat` raises.
    """
    asked = read_fields(request)
    body = dialect.to_chat(asked)
    if before is not None:
        body = await before(body, asked)
    request.body = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
    outcome = await chat()
    if isinstance(outcome, Reply):
        if outcome.status != 200:
            raise UpstreamError(outcome.status, outcome.body, outcome.content_type, None)
        said = dialect.whole(msgspec.json.decode(outcome.body), asked)
        return Reply(200, msgspec.json.encode(said), headers=outcome.headers)
    writer = dialect.writer(asked)
    told = Stream(outcome.status, _told(outcome, writer, f"chatcmpl-{request.id}"), headers=outcome.headers)
    told.at_end, outcome.at_end = outcome.at_end, []
    return told


async def _told(outcome: Stream, writer: EventWriter, chat_id: str) -> AsyncGenerator[bytes, None]:
    """`chat_id`: what the record calls the reply."""
    try:
        async with aclosing(chunks_of(outcome.frames)) as chunks:
            async for chunk in chunks:
                if chunk is None:
                    for event in writer.end():
                        yield event
                    return
                fault = chunk.get("error")
                for event in writer.feed({**chunk, "id": chat_id}) if fault is None else writer.fault(*_of(fault)):
                    yield event
                if fault is not None:
                    return
        for event in writer.fault(*BROKEN):
            yield event
    finally:
        await outcome.frames.aclose()


def _of(fault: Any) -> tuple[str, str]:
    said = fault if isinstance(fault, dict) else {"message": str(fault)}
    return str(said.get("message") or "unknown fault"), str(said.get("code") or "server_error")
