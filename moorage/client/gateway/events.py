"""The pool's events, blocking, over as many connections as it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from moorage.client.gateway.asks import pool
from moorage.client.gateway.event_resume import EventResume
from moorage.client.gateway.values import Event

if TYPE_CHECKING:
    from moorage.client.http.blocking import Blocking

__all__ = ["event_stream"]


def event_stream(http: Blocking, channel: str | None, after: int | None) -> Iterator[Event]:
    """See `GatewayClient.events`."""
    resume = EventResume(http.terms, after)
    while True:
        try:
            with http.stream(pool.events(channel, resume.after)) as reply:
                if reply.status_code != 200:
                    reply.read()
                resume.connected(reply)
                for line in reply.iter_lines():
                    event = resume.feed(line)
                    if event is not None:
                        yield event
        except httpx.TransportError as fault:
            resume.broke(fault)
        time.sleep(resume.pause())
