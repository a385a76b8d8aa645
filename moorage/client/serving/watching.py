"""What happens to models, as it happens, over as many connections as it takes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from moorage.client.http.again import may_pass, pause_before, retry_after_of
from moorage.client.http.events import EventReader
from moorage.client.http.faults import fault_of, no_connection
from moorage.client.serving import asks
from moorage.errors import MoorageError

if TYPE_CHECKING:
    from moorage.client.http.blocking import Blocking

__all__ = ["Watched", "watch_stream"]


@dataclass(frozen=True, slots=True)
class Watched:
    """One event of a watch: `type` is ADDED, MODIFIED, DELETED (with `data["model"]`) or BOOKMARK."""

    id: str
    """The last one that was told: going on `after` it misses nothing."""
    type: str
    data: dict[str, Any]


def watch_stream(http: Blocking, model_key: str | None, after: str | None) -> Iterator[Watched]:
    """See `ServingClient.watch`."""
    reader = EventReader()
    attempts, waited_s = 0, 0.0
    is_gone = False  # the one model is DELETED: the bookmark after that is the last word
    while True:
        fault: MoorageError | None = None
        try:
            with http.stream(asks.watch(model_key, reader.last_id or after)) as reply:
                reader.begin_again()
                fault = _refused(http, reply)
                for line in reply.iter_lines() if fault is None else ():
                    attempts, waited_s = 0, 0.0
                    frame = reader.feed(line)
                    if frame is not None:
                        is_gone = is_gone or (model_key is not None and frame.type == "DELETED")
                        yield Watched(frame.id, frame.type, asks.event_of(frame.data))
        except httpx.TransportError as broke:
            fault = no_connection(http.terms.url, broke, server=http.terms.server)
        if is_gone:
            return
        attempts += 1
        pause = _pause(attempts, waited_s, http.terms.patience_s)
        if pause is None:
            raise fault or no_connection(
                http.terms.url, ConnectionError("the stream ends at once, again and again"), server=http.terms.server
            )
        waited_s += pause
        time.sleep(pause)


def _refused(http: Blocking, reply: httpx.Response) -> MoorageError | None:
    """What is worth asking again for; None: it streams. Raises every other refusal."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if reply.status_code == 200 and kind == "text/event-stream":
        return None
    if reply.status_code == 200:
        raise asks.no_stream(kind)
    reply.read()
    retry_after_s = retry_after_of(reply.headers.get("retry-after"))
    fault = fault_of(
        reply.status_code, reply.content, http.terms.url, key_hint=http.terms.key_hint, retry_after_s=retry_after_s
    )
    if not may_pass(reply.status_code, fault.code, retry_after_s):
        raise fault
    return fault


def _pause(attempts: int, waited_s: float, patience_s: float) -> float | None:
    return pause_before(
        "passing",
        repeatable=True,
        attempts=attempts,
        waited_s=waited_s,
        patience_s=patience_s,
        retry_after_s=None,
        chance=random.random(),  # noqa: S311 - it only spreads clients apart
    )
