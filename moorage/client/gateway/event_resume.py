"""Where a stream of events was broken off, and how it goes on: shared by both forms."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from moorage.client.gateway.asks.pool import event_of
from moorage.client.gateway.values import Event
from moorage.client.http.again import may_pass, pause_before
from moorage.client.http.events import EventReader
from moorage.client.http.faults import fault_of, no_connection
from moorage.errors import FailedError, MoorageError

if TYPE_CHECKING:
    import httpx

    from moorage.client.http.terms import Terms

__all__ = ["EventResume"]

BEGINNING = ": moorage cursor="
"""The comment that says after which event a stream begins."""


class EventResume:
    """`after`: the id of the last event that was given; None: from now on."""

    def __init__(self, terms: Terms, after: int | None) -> None:
        self._terms = terms
        self._reader = EventReader()
        self._start = None if after is None else str(after)
        self._attempts, self._waited_s = 0, 0.0
        self._fault: MoorageError | None = None

    @property
    def after(self) -> str | None:
        """What `Last-Event-ID` says in the next request; None: nothing."""
        return self._reader.last_id or self._start

    def connected(self, reply: httpx.Response) -> None:
        """Raises the reply's fault, unless it may pass."""
        self._reader.begin_again()
        if reply.status_code == 200:
            _check_is_stream(reply)
            return
        fault = fault_of(reply.status_code, reply.content, self._terms.url)
        if not may_pass(reply.status_code, fault.code):
            raise fault
        self._fault = fault

    def feed(self, line: str) -> Event | None:
        """The event that the line ends; None: none."""
        if self._fault is None:
            self._attempts, self._waited_s = 0, 0.0
        if line.startswith(BEGINNING) and self._start is None:
            self._start = line.removeprefix(BEGINNING).strip()
        frame = self._reader.feed(line)
        return None if frame is None else event_of(frame)

    def broke(self, fault: httpx.TransportError) -> None:
        """The connection broke, or could not be made."""
        self._fault = no_connection(self._terms.url, fault)

    def pause(self) -> float:
        """Seconds before asking again. Raises what stood in the way for longer than the client's patience."""
        self._attempts += 1
        fault, self._fault = self._fault, None
        pause = pause_before(
            "passing",
            repeatable=True,
            attempts=self._attempts,
            waited_s=self._waited_s,
            patience_s=self._terms.patience_s,
            retry_after_s=None,
            chance=random.random(),  # noqa: S311 - it only spreads clients apart
        )
        if pause is None:
            raise fault or no_connection(self._terms.url, ConnectionError("the stream ends at once, again and again"))
        self._waited_s += pause
        return pause


def _check_is_stream(reply: httpx.Response) -> None:
    """Whatever else answers with 200 would be read again and again, and never say anything."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise FailedError(
            f"the reply is not a gateway's: it is {kind[:100]!r} in the place of a stream of events",
            code="bad_reply",
            hint="another program, or another version, may listen there",
        )
