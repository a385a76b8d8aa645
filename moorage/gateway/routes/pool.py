"""The trainer's routes: lease groups, ack or nack them, look at steps and trajectories, follow events."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from moorage.gateway.http.faults import BodyWrong
from moorage.gateway.http.reply import Reply, Stream, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.routes.pool_tables import arrow_reply, wants_arrow
from moorage.gateway.routes.trajectories import check_channel
from moorage.pool.arrow import lease_stream, step_stream, trajectory_stream
from moorage.pool.contract import Event, Lease, LeaseAsk
from moorage.pool.marks import check_marks
from moorage.pool.times import rfc3339

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["ack", "events", "lease", "nack", "rfc3339", "stats", "steps", "trajectories"]

COMMENT_EVERY_S = 10.0
"""A comment line at least every 15 s is promised."""


LONGEST_S = 366 * 86400.0
"""A lease or a delay of more than a year is a mistake."""


class LeaseBody(msgspec.Struct, frozen=True):
    channel: str = "train"
    n_rollouts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_groups: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    lease_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] = 300.0
    min_policy_version: int | None = None
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    consumer: str | None = None
    marks: dict[str, Any] = {}


class AckBody(msgspec.Struct, frozen=True):
    lease_ids: list[str]


class NackBody(msgspec.Struct, frozen=True):
    lease_ids: list[str]
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_S)] = 0.0
    drop: bool = False
    reason: str | None = None


async def lease(gateway: Gateway, request: Request) -> Reply:
    """`POST /pool/lease`: up to `max_groups` ready groups, waiting up to `wait_s` for the first."""
    body = request.decode(LeaseBody, empty=b"{}")
    check_channel(body.channel)
    check_marks(body.marks)
    as_table = await wants_arrow(request)
    ask = LeaseAsk(
        channel=body.channel,
        n_rollouts=body.n_rollouts or gateway.settings.n_rollouts,
        max_groups=body.max_groups,
        lease_s=body.lease_s,
        min_policy_version=body.min_policy_version,
        consumer=body.consumer,
        marks=body.marks,
    )
    leases, skipped = await request.while_connected(_lease_within(gateway, request, ask, body.wait_s, packed=as_table))
    if as_table:
        return await arrow_reply(lease_stream, leases, skipped)
    return json_reply({"leases": [_lease(one) for one in leases], "skipped_stale": skipped})


async def ack(gateway: Gateway, request: Request) -> Reply:
    """`POST /pool/ack`: these leases are done with."""
    return json_reply({"acked": await gateway.store.ack(request.decode(AckBody).lease_ids)})


async def nack(gateway: Gateway, request: Request) -> Reply:
    """`POST /pool/nack`: these groups go back, or are dropped."""
    body = request.decode(NackBody)
    count = await gateway.store.nack(body.lease_ids, delay_s=body.delay_s, drop=body.drop, reason=body.reason)
    return json_reply({"nacked": count})


async def stats(gateway: Gateway, request: Request) -> Reply:
    """`GET /pool/stats?channel=&n_rollouts=`."""
    n_rollouts = _whole(request, "n_rollouts", gateway.settings.n_rollouts, 1, 2**31)
    return json_reply({"channels": await gateway.store.stats(request.query.get("channel"), n_rollouts)})


async def steps(gateway: Gateway, request: Request) -> Reply:
    """`GET /pool/steps`: stored steps in commit order, whatever became of them."""
    filters: dict[str, Any] = _filters(request, ("channel", "trajectory_uid", "prompt_uid", "state"))
    if "policy_version" in request.query:
        filters["policy_version"] = _whole(request, "policy_version", 0, -(2**63), 2**63 - 1)
    _check_state(filters)
    as_table = await wants_arrow(request)
    cursor = request.query.get("cursor") or None
    page = await gateway.store.steps(filters, _limit(request), cursor, packed=as_table)
    if as_table:
        return await arrow_reply(step_stream, page.rows, page.next_cursor)
    return json_reply({"steps": page.rows, "next_cursor": page.next_cursor})


async def trajectories(gateway: Gateway, request: Request) -> Reply:
    """`GET /pool/trajectories`."""
    filters = _filters(request, ("channel", "trajectory_uid", "prompt_uid", "state"))
    _check_state(filters)
    as_table = await wants_arrow(request)
    page = await gateway.store.trajectories(filters, _limit(request), request.query.get("cursor") or None)
    if as_table:
        return await arrow_reply(trajectory_stream, page.rows, page.next_cursor)
    rows = [_trajectory(msgspec.to_builtins(row)) for row in page.rows]
    return json_reply({"trajectories": rows, "next_cursor": page.next_cursor})


async def events(gateway: Gateway, request: Request) -> Stream:
    """`GET /pool/events`: what happens, as it happens; after `cursor` or `Last-Event-ID`, what happened since."""
    text = request.query.get("cursor") or request.header(b"last-event-id")
    after = None
    if text is not None:
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise BodyWrong(f"{text!r} is no cursor: a whole number", "/cursor")
        after = int(text)
    latest = await gateway.store.latest_event()
    after = latest if after is None else min(after, latest)
    return Stream(200, _event_frames(gateway, request, request.query.get("channel") or None, after))


async def _lease_within(
    gateway: Gateway, request: Request, ask: LeaseAsk, wait_s: float, *, packed: bool
) -> tuple[list[Lease], int]:
    until = time.monotonic() + wait_s
    while True:
        leases, skipped = await gateway.store.lease(ask, packed=packed)
        left_s = until - time.monotonic()
        if leases or left_s <= 0 or gateway.stopping.is_set():
            return leases, skipped
        await gateway.store.wait_for_change(min(left_s, 1.0))  # leases of others expire without a write
        if not gateway.door.trusts(request):
            return [], skipped  # its key was revoked meanwhile


async def _event_frames(
    gateway: Gateway, request: Request, channel: str | None, after: int
) -> AsyncGenerator[bytes, None]:
    source = gateway.store.events(channel, after).__aiter__()
    waiting: asyncio.Task[Event] | None = None
    stopping = asyncio.ensure_future(gateway.stopping.wait())
    try:
        yield b": moorage cursor=%d\n\n" % after
        while not gateway.stopping.is_set():
            waiting = waiting or asyncio.ensure_future(source.__anext__())
            await asyncio.wait((waiting, stopping), timeout=COMMENT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if not gateway.door.trusts(request):
                return  # its key was revoked meanwhile
            if not waiting.done():
                yield b": still here\n\n"
                continue
            event, waiting = waiting.result(), None
            yield _event(event)
    finally:
        stopping.cancel()
        if waiting is not None:
            waiting.cancel()


def _event(event: Event) -> bytes:
    fields = {name: value for name, value in msgspec.structs.asdict(event).items() if value is not None}
    del fields["id"]
    fields["at"] = rfc3339(event.at)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), msgspec.json.encode(fields))


def _trajectory(row: dict[str, Any]) -> dict[str, Any]:
    completed_at = row["completed_at"]
    return {
        **row,
        "created_at": rfc3339(row["created_at"]),
        "completed_at": None if completed_at is None else rfc3339(completed_at),
    }


def _lease(one: Lease) -> dict[str, Any]:
    return {**msgspec.structs.asdict(one), "expires_at": rfc3339(one.expires_at)}


def _filters(request: Request, names: tuple[str, ...]) -> dict[str, Any]:
    query = request.query
    return {name: query[name] for name in names if query.get(name)}


def _check_state(filters: dict[str, Any]) -> None:
    if filters.get("state", "open") not in ("open", "complete"):
        raise BodyWrong("state is open or complete", "/state")


def _limit(request: Request) -> int:
    return _whole(request, "limit", 200, 1, 1000)


def _whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name)
    if text is None or text == "":
        return default
    try:
        value = int(text)
    except ValueError:
        raise BodyWrong(f"{name}={text!r} is no whole number", f"/{name}") from None
    if not least <= value <= most:
        raise BodyWrong(f"{name} is between {least} and {most}", f"/{name}")
    return value
