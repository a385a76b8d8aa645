"""The pool: leases, what is stored, marks, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from moorage.client.gateway.asks.body import encoded, given
from moorage.client.gateway.values import Event, Leases, Page, Step, TrajectoryRow
from moorage.client.http.ask import Ask, Reply, json_of, reads, value_of
from moorage.client.http.events import Frame
from moorage.errors import FailedError

__all__ = [
    "ARROW",
    "ack",
    "event_of",
    "events",
    "lease",
    "lease_table",
    "mark",
    "nack",
    "stats",
    "steps",
    "trajectories",
]

ARROW = "application/vnd.apache.arrow.stream"
GRACE_S = 30.0
"""A lease that waits is answered this long after its time, at the latest."""
SILENCE_S = 30.0
"""A stream of events that says nothing for so long is broken: a comment comes every ten seconds."""


class _Steps(msgspec.Struct):
    steps: list[Step]
    next_cursor: str | None = None


class _Rows(msgspec.Struct):
    trajectories: list[TrajectoryRow]
    next_cursor: str | None = None


def lease(body: Mapping[str, Any]) -> Ask[Leases]:
    """A lease whose reply was lost runs out by itself, so asking again does no harm."""
    return Ask(
        method="POST",
        path="/pool/lease",
        content=encoded(dict(body)),
        read=value_of(Leases),
        repeatable=True,
        timeout_s=body.get("wait_s", 0) + GRACE_S,
    )


def lease_table(body: Mapping[str, Any]) -> Ask[bytes]:
    """The same as an Arrow stream."""
    return Ask(
        method="POST",
        path="/pool/lease",
        content=encoded(dict(body)),
        headers={"accept": ARROW},
        read=_arrow,
        repeatable=True,
        timeout_s=body.get("wait_s", 0) + GRACE_S,
    )


def ack(lease_ids: Sequence[str]) -> Ask[int]:
    body = encoded({"lease_ids": list(lease_ids)})
    return Ask(method="POST", path="/pool/ack", content=body, read=reads("acked"), repeatable=True)


def nack(lease_ids: Sequence[str], delay_s: float, drop: bool, reason: str | None) -> Ask[int]:
    body = {"lease_ids": list(lease_ids), "delay_s": delay_s, "drop": drop, **given(reason=reason)}
    return Ask(
        method="POST",
        path="/pool/nack",
        content=encoded(body),
        read=reads("nacked"),
        repeatable=True,
        done_when_repeated={"lease_lost": len(lease_ids)},
    )


def stats(channel: str | None, n_rollouts: int | None) -> Ask[dict[str, Any]]:
    params = given(channel=channel, n_rollouts=n_rollouts)
    return Ask(method="GET", path="/pool/stats", params=params, read=reads("channels"), repeatable=True)


def steps(filters: Mapping[str, Any], cursor: str | None) -> Ask[Page]:
    def read(reply: Reply) -> Page:
        said = value_of(_Steps)(reply)
        return Page(rows=said.steps, next_cursor=said.next_cursor)

    params = given(**filters, cursor=cursor)
    return Ask(method="GET", path="/pool/steps", params=params, read=read, repeatable=True)


def trajectories(filters: Mapping[str, Any], cursor: str | None) -> Ask[Page]:
    def read(reply: Reply) -> Page:
        said = value_of(_Rows)(reply)
        return Page(rows=said.trajectories, next_cursor=said.next_cursor)

    params = given(**filters, cursor=cursor)
    return Ask(method="GET", path="/pool/trajectories", params=params, read=read, repeatable=True)


def mark(trajectory_uid: str, step_index: int, marks: Mapping[str, Any]) -> Ask[dict[str, Any]]:
    body = {"trajectory_uid": trajectory_uid, "step_index": step_index, "marks": dict(marks)}
    return Ask(method="POST", path="/pool/marks", content=encoded(body), read=reads("marks"), repeatable=True)


def events(channel: str | None, after: str | None) -> Ask[Any]:
    """The stream after the event `after`; None: from now on."""
    headers = {"accept": "text/event-stream", **({"last-event-id": after} if after is not None else {})}
    params = given(channel=channel)
    return Ask(method="GET", path="/pool/events", params=params, headers=headers, read=json_of, timeout_s=SILENCE_S)


def event_of(frame: Frame) -> Event:
    """Raises FailedError for what no gateway sends."""
    try:
        event = msgspec.json.decode(frame.data, type=Event)
        event.id = int(frame.id)
    except (msgspec.DecodeError, ValueError) as fault:
        raise FailedError(f"an event is not a gateway's: {fault}", code="bad_reply") from None
    return event


def _arrow(reply: Reply) -> bytes:
    if not reply.headers.get("content-type", "").startswith(ARROW):
        message = "the gateway gave JSON in place of a table"
        raise FailedError(message, code="package_missing", hint="it needs the extra moorage[gateway,arrow]")
    return reply.content
