"""What `/pool/steps`, `/pool/trajectories` and `/pool/stats` show, without changing anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.errors import UsageError
from moorage.pool.contract import Page, TrajectoryRow
from moorage.pool.groups import is_ready, shown_state
from moorage.pool.sqlite.appending import INTEGERS
from moorage.pool.sqlite.records import COLUMNS, read_call
from moorage.pool.sqlite.steps import StepMaker
from moorage.pool.sqlite.trajectories import DEFAULT_CHANNEL, KEPT, Kept, current_reward

__all__ = ["stats", "steps", "trajectories"]

_GROUP_STATES = ("open", "ready", "leased", "acked", "dropped")


def steps(db: sqlite3.Connection, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
    """Raises UsageError for a cursor that is none."""
    where, values = _where(
        filters,
        {
            "channel": "t.channel = ?",
            "trajectory_uid": "t.uid = ?",
            "prompt_uid": "t.prompt_uid = ?",
            "policy_version": "c.policy_version = ?",
        },
    )
    # Named trajectories are found first and their calls by index; else calls are walked in the order of commits.
    named = "trajectory_uid" in filters or "prompt_uid" in filters
    tables = "trajectories t CROSS JOIN calls c" if named else "calls c CROSS JOIN trajectories t"
    columns = ", ".join(f"c.{name}" for name in COLUMNS.split(", "))
    rows = db.execute(
        f"SELECT c.trajectory, {columns} FROM {tables}"  # noqa: S608
        f" WHERE c.trajectory = t.id AND c.id > ?{where} ORDER BY c.id LIMIT ?",
        (_after(cursor), *values, limit + 1),
    ).fetchall()
    makers: dict[int, tuple[Kept, StepMaker]] = {}
    blobs: dict[bytes, Any] = {}
    shown = []
    for trajectory, *row in rows[:limit]:
        if trajectory not in makers:
            kept = Kept(*db.execute(f"SELECT {KEPT} FROM trajectories t WHERE t.id = ?", (trajectory,)).fetchone())  # noqa: S608
            makers[trajectory] = kept, StepMaker(db, kept, blobs)
        kept, maker = makers[trajectory]
        shown.append(maker.step(read_call(db, row, kept.last_seq, kept.reward), shown=True))
    return Page(shown, _cursor(rows[limit - 1][1]) if len(rows) > limit else None)


def trajectories(db: sqlite3.Connection, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
    """Raises UsageError for a cursor that is none."""
    where, values = _where(
        filters,
        {
            "channel": f"coalesce(t.channel, '{DEFAULT_CHANNEL}') = ?",
            "trajectory_uid": "t.uid = ?",
            "prompt_uid": "t.prompt_uid = ?",
            "state": "t.state = ?",
        },
    )
    rows = db.execute(
        f"SELECT {KEPT}, (SELECT count(*) FROM calls c WHERE c.trajectory = t.id AND c.flags > 0),"  # noqa: S608
        " (SELECT count(*) FROM calls c WHERE c.trajectory = t.id AND c.flags > 0 AND c.flags IN (1, 3))"
        f" FROM trajectories t WHERE t.id > ? AND t.state <> 'deleted'{where} ORDER BY t.id LIMIT ?",
        (_after(cursor), *values, limit + 1),
    ).fetchall()
    shown = [_row(db, Kept(*row[:-2]), apart=row[-2], late=row[-1]) for row in rows[:limit]]
    return Page(shown, _cursor(rows[limit - 1][0]) if len(rows) > limit else None)


def stats(db: sqlite3.Connection, channel: str | None, n_rollouts: int, now: float) -> dict[str, Any]:
    """Counts by channel; the channel that was asked for is there also when it is empty."""
    counted: dict[str, Any] = {channel or DEFAULT_CHANNEL: _nothing()}
    _count_calls(db, channel, counted)
    _count_rounds(db, channel, n_rollouts, now, counted)
    return counted


def _row(db: sqlite3.Connection, kept: Kept, *, apart: int, late: int) -> TrajectoryRow:
    return TrajectoryRow(
        trajectory_uid=kept.uid,
        prompt_uid=kept.prompt_uid,
        channel=kept.channel or DEFAULT_CHANNEL,
        state=kept.state,  # type: ignore[arg-type]
        steps=(kept.calls or 0) - apart,
        late_steps=late,
        reward=current_reward(db, kept),
        metadata=msgspec.json.decode(kept.metadata),
        created_at=kept.created_at,
        completed_at=kept.completed_at,
    )


def _count_calls(db: sqlite3.Connection, channel: str | None, counted: dict[str, Any]) -> None:
    rows = db.execute(
        "SELECT coalesce(t.channel, ?) AS named, t.state, count(*),"
        " sum((SELECT coalesce(max(c.seq) + 1, 0) FROM calls c WHERE c.trajectory = t.id)"
        "  - (SELECT count(*) FROM calls c WHERE c.trajectory = t.id AND c.flags > 0)),"
        " sum((SELECT count(*) FROM calls c WHERE c.trajectory = t.id AND c.flags > 0 AND c.flags IN (1, 3)))"
        " FROM trajectories t WHERE named = coalesce(?, named) GROUP BY named, t.state",
        (DEFAULT_CHANNEL, channel),
    )
    for named, state, many, delivered, late in rows:
        of_channel = counted.setdefault(named, _nothing())
        of_channel["steps"] += delivered
        of_channel["late_steps"] += late
        if state in of_channel["trajectories"]:
            of_channel["trajectories"][state] += many


def _count_rounds(
    db: sqlite3.Connection, channel: str | None, n_rollouts: int, now: float, counted: dict[str, Any]
) -> None:
    rounds = db.execute(
        "SELECT g.channel, r.state, r.size, r.not_before, count(*) FROM rounds r JOIN groups g ON g.id = r.group_id"
        " WHERE g.channel = coalesce(?, g.channel) GROUP BY 1, 2, CASE r.state WHEN 'waiting' THEN r.id END",
        (channel,),
    )
    for named, state, size, not_before, many in rounds:
        shown = shown_state(state, size, not_before, now, n_rollouts)
        counted.setdefault(named, _nothing())["groups"][shown] += many
    gathering = db.execute(
        "SELECT g.channel, g.waiting FROM groups g WHERE g.channel = coalesce(?, g.channel) AND (g.waiting > 0 OR"
        " EXISTS (SELECT 1 FROM trajectories t WHERE t.group_id = g.id AND t.state = 'open'))",
        (channel,),
    )
    for named, complete in gathering:
        state = "ready" if is_ready(complete, n_rollouts) else "open"
        counted.setdefault(named, _nothing())["groups"][state] += 1


def _nothing() -> dict[str, Any]:
    return {
        "steps": 0,
        "late_steps": 0,
        "trajectories": {"open": 0, "complete": 0},
        "groups": dict.fromkeys(_GROUP_STATES, 0),
    }


def _where(filters: Mapping[str, Any], known: Mapping[str, str]) -> tuple[str, list[Any]]:
    """Filters that are None are none."""
    asked = [name for name in known if filters.get(name) is not None]
    if any(isinstance(filters[name], int) and filters[name] not in INTEGERS for name in asked):
        return " AND 0", []
    return "".join(f" AND {known[name]}" for name in asked), [filters[name] for name in asked]


def _cursor(number: int) -> str:
    return f"a{number:x}"


def _after(cursor: str | None) -> int:
    """The row that the page begins after."""
    if cursor is None:
        return 0
    digits = cursor.removeprefix("a")
    if digits == cursor or not digits.isalnum() or len(digits) > 15:
        raise _bad(cursor)
    try:
        return int(digits, 16)
    except ValueError:
        raise _bad(cursor) from None


def _bad(cursor: str) -> UsageError:
    return UsageError(
        f"{cursor[:80]!r} is no cursor of this store", code="bad_cursor", hint="give next_cursor as it came"
    )
