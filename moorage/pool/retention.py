"""Which trajectories may go, and in which order: decisions, whichever store keeps the rows.

    open           never goes                   (agents write to it)
    ready, leased  never goes                   (a trainer is to get it, or has it)
    unfinished     complete, in a group with fewer than n_rollouts such ones and none open: nobody finishes it
    acked          a trainer is done with its round
    dropped        its round was given up
    deleted        a session that was ended

What goes has been at rest for `YOUNGEST_S` at least, and the time of the last lease of its round is over, however it
ended: whoever holds that lease may still ack it, or ack it again. Trajectories of one round go together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from moorage.errors import UsageError
from moorage.pool.contract import Retained, Retention
from moorage.pool.times import rfc3339

__all__ = [
    "KEEPS",
    "PLANNED",
    "YOUNGEST_S",
    "Fate",
    "Member",
    "Unit",
    "check_retention",
    "choose",
    "fate_alone",
    "fate_of_round",
    "horizon",
    "summed",
    "told",
]

Fate = Literal["unfinished", "acked", "dropped", "deleted"]

KEEPS = ("open", "ready", "leased", "unfinished", "acked", "dropped", "deleted", "marked")
"""What `keep` may name; the first three are kept always."""
YOUNGEST_S = 3600.0
"""Nothing goes that was touched since: a lease lasts five minutes when nobody says otherwise, a model call ten."""
PLANNED = ("trajectories", "calls", "bytes", "channels", "oldest_at", "newest_at")
"""What a dry run and what then goes agree in."""


class Member(NamedTuple):
    """A trajectory that goes."""

    number: int
    """Its row."""
    uid: str
    channel: str
    calls: int
    touched_at: float
    """When the last thing happened to it, Unix seconds."""
    marked: bool


class Unit(NamedTuple):
    """What goes together: the trajectories of a round, or a single one that no round has."""

    round_id: int | None
    fate: Fate
    touched_at: float
    members: tuple[Member, ...]


def check_retention(ask: Retention) -> None:
    """Raises UsageError `bad_retention` for limits that are none, too young an age, or unknown states to keep."""
    if ask.older_than_s is None and ask.max_bytes is None:
        raise _bad("an age or a size: without one nothing goes")
    if ask.older_than_s is not None and not (math.isfinite(ask.older_than_s) and ask.older_than_s >= YOUNGEST_S):
        raise _bad(f"an age of {ask.older_than_s:g} s: at least {YOUNGEST_S:g} s, so that no lease is cut short")
    if ask.max_bytes is not None and ask.max_bytes < 0:
        raise _bad(f"a size of {ask.max_bytes} bytes: 0 or more")
    unknown = sorted(ask.keep.difference(KEEPS))
    if unknown:
        raise _bad(f"{unknown[0][:80]!r} is nothing that can be kept: {', '.join(KEEPS)}")


def horizon(ask: Retention, content_bytes: int, now: float) -> float | None:
    """What was touched after it stays whatever comes; None: nothing goes at all."""
    if ask.max_bytes is not None and content_bytes > ask.max_bytes:
        return now - YOUNGEST_S
    return None if ask.older_than_s is None else now - max(ask.older_than_s, YOUNGEST_S)


def fate_of_round(state: str) -> Fate | None:
    """None: it stays."""
    return state if state in ("acked", "dropped") else None  # type: ignore[return-value]


def fate_alone(state: str, complete: int, open_ones: int, n_rollouts: int) -> Fate | None:
    """Of a trajectory that is in no round, in a group with so many complete and open ones. None: it stays."""
    if state == "deleted":
        return "deleted"
    nobody_finishes = open_ones == 0 and complete < n_rollouts
    return "unfinished" if state == "complete" and nobody_finishes else None


def choose(ask: Retention, units: Iterable[tuple[Unit, int]], content_bytes: int, now: float) -> list[tuple[Unit, int]]:
    """Which go, of units and their bytes, oldest first; `content_bytes`: all that the store holds."""
    gone: list[tuple[Unit, int]] = []
    for unit, size in units:
        too_old = ask.older_than_s is not None and unit.touched_at <= now - ask.older_than_s
        too_big = ask.max_bytes is not None and content_bytes > ask.max_bytes
        if not (too_old or too_big):
            break
        gone.append((unit, size))
        content_bytes -= size
    return gone


def summed(gone: Sequence[tuple[Unit, int]], content_bytes: int) -> Retained:
    """What these are together; `content_bytes`: what the store held before."""
    channels: dict[str, int] = {}
    for unit, _ in gone:
        for one in unit.members:
            channels[one.channel] = channels.get(one.channel, 0) + 1
    return Retained(
        trajectories=sum(len(unit.members) for unit, _ in gone),
        calls=sum(one.calls for unit, _ in gone for one in unit.members),
        bytes=sum(size for _, size in gone),
        channels=dict(sorted(channels.items())),
        oldest_at=min((unit.touched_at for unit, _ in gone), default=None),
        newest_at=max((unit.touched_at for unit, _ in gone), default=None),
        content_bytes=content_bytes,
    )


def told(retained: Retained) -> dict[str, Any]:
    """As JSON tells it."""
    times = {
        name: None if at is None else rfc3339(at)
        for name, at in (("oldest_at", retained.oldest_at), ("newest_at", retained.newest_at))
    }
    return {
        "trajectories": retained.trajectories,
        "calls": retained.calls,
        "bytes": retained.bytes,
        "channels": retained.channels,
        **times,
        "blobs": retained.blobs,
        "freed_bytes": retained.freed_bytes,
        "content_bytes": retained.content_bytes,
    }


def _bad(message: str) -> UsageError:
    return UsageError(message, code="bad_retention")
