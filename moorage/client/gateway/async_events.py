"""The pool's events, awaited, over as many connections as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx

from moorage.client.gateway.asks import pool
from moorage.client.gateway.event_resume import EventResume
from moorage.client.gateway.values import Event

if TYPE_CHECKING:
    from moorage.client.http.awaiting import Awaiting

__all__ = ["async_event_stream"]


async def async_event_stream(http: Awaiting, channel: str | None, after: int | None) -> AsyncIterator[Event]:
    """See `AsyncGatewayClient.events`."""
    resume = EventResume(http.terms, after)
    while True:
        try:
            async with http.stream(pool.events(channel, resume.after)) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                resume.connected(reply)
                async for line in reply.aiter_lines():
                    event = resume.feed(line)
                    if event is not None:
                        yield event
        except httpx.TransportError as fault:
            resume.broke(fault)
        await asyncio.sleep(resume.pause())
