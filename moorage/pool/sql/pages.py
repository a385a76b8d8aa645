"""What `/pool/steps`, `/pool/trajectories` and `/pool/stats` show, without changing anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.errors import UsageError
from moorage.pool.contract import PackedStep, Page, TrajectoryRow
from moorage.pool.sql import tallies
from moorage.pool.sql.appending import INTEGERS
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.records import COLUMNS, read_call
from moorage.pool.sql.steps import StepMaker
from moorage.pool.sql.trajectories import DEFAULT_CHANNEL, KEPT, Kept, current_reward
from moorage.pool.unpacking import unpacked

__all__ = ["stats", "steps", "trajectories"]

_AT_ONCE = 250
_PAGE_BYTES = 32 << 20
"""Of ids, about: a page is held in memory, as JSON it takes three times as much."""


def steps(db: Connection, filters: Mapping[str, Any], limit: int, cursor: str | None, *, packed: bool = False) -> Page:
    """Fewer than `limit` where they are big. Raises UsageError for a cursor that this store did not give."""
    where, values = _where(
        filters,
        {
            "channel": "t.channel = ?",
            "trajectory_uid": "t.uid = ?",
            "prompt_uid": "t.prompt_uid = ?",
            "policy_version": "c.policy_version = ?",
            "state": "t.state = ?",
        },
    )
    # Named trajectories are found first and their calls by index; else calls are walked in the order of commits.
    named = "trajectory_uid" in filters or "prompt_uid" in filters
    tables = "trajectories t CROSS JOIN calls c" if named else "calls c CROSS JOIN trajectories t"
    tag = _tag(db)
    found = db.execute(
        f"SELECT c.id, c.trajectory FROM {tables}"  # noqa: S608
        f" WHERE c.trajectory = t.id AND c.id > ?{where} ORDER BY c.id LIMIT ?",
        (_after(cursor, tag), *values, limit + 1),
    ).fetchall()
    shown, last = _shown(db, found[:limit])
    rows = shown if packed else [unpacked(step, shown=True) for step in shown]
    return Page(rows, _cursor(last, tag) if len(found) > len(shown) else None)


def trajectories(db: Connection, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
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
    tag = _tag(db)
    rows = db.execute(
        f"SELECT {KEPT}, (SELECT count(*) FROM calls c WHERE c.trajectory = t.id AND c.flags > 0),"  # noqa: S608
        " (SELECT count(*) FROM calls c WHERE c.trajectory = t.id AND c.flags > 0 AND c.flags IN (1, 3))"
        f" FROM trajectories t WHERE t.id > ? AND t.state <> 'deleted'{where} ORDER BY t.id LIMIT ?",
        (_after(cursor, tag), *values, limit + 1),
    ).fetchall()
    shown = [_row(db, Kept(*row[:-2]), apart=row[-2], late=row[-1]) for row in rows[:limit]]
    return Page(shown, _cursor(rows[limit - 1][0], tag) if len(rows) > limit else None)


def stats(db: Connection, channel: str | None, n_rollouts: int, now: float) -> dict[str, Any]:
    """Counts by channel; the channel that was asked for is there also when it is empty."""
    return tallies.stats(db, channel, DEFAULT_CHANNEL, n_rollouts, now)


def _shown(db: Connection, found: list[Any]) -> tuple[list[PackedStep], int]:
    """The steps of (call, trajectory), as many as are not too big together, and the last one's number."""
    makers: dict[int, tuple[Kept, StepMaker]] = {}
    blobs: dict[bytes, bytes] = {}
    shown: list[PackedStep] = []
    last = held = 0
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        rows = db.execute(
            f"SELECT {COLUMNS} FROM calls WHERE id IN ({marks}) ORDER BY id",  # noqa: S608
            [row[0] for row in some],
        ).fetchall()
        for row, (_, trajectory) in zip(rows, some, strict=True):
            if trajectory not in makers:
                kept = _kept(db, trajectory)
                makers[trajectory] = kept, StepMaker(db, kept, blobs)
            kept, maker = makers[trajectory]
            step = maker.step(read_call(db, row, kept.last_seq, kept.reward), shown=True)
            shown.append(step)
            last = row[0]
            held += len(step.prompt_ids) + len(step.response_ids) * 3 + len(step.multi_modal_data or b"")
            if held >= _PAGE_BYTES:
                return shown, last
    return shown, last


def _kept(db: Connection, trajectory: int) -> Kept:
    return Kept(*db.execute(f"SELECT {KEPT} FROM trajectories t WHERE t.id = ?", (trajectory,)).fetchone())  # noqa: S608


def _row(db: Connection, kept: Kept, *, apart: int, late: int) -> TrajectoryRow:
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


def _where(filters: Mapping[str, Any], known: Mapping[str, str]) -> tuple[str, list[Any]]:
    """Filters that are None are none."""
    asked = [name for name in known if filters.get(name) is not None]
    if any(isinstance(filters[name], int) and filters[name] not in INTEGERS for name in asked):
        return " AND 1 = 0", []
    return "".join(f" AND {known[name]}" for name in asked), [filters[name] for name in asked]


def _tag(db: Connection) -> str:
    """Which store this is."""
    return str(db.execute("SELECT tag FROM store").fetchone()[0])


def _cursor(number: int, tag: str) -> str:
    return f"{tag}.{number:x}"


def _after(cursor: str | None, tag: str) -> int:
    """The row that the page begins after."""
    if cursor is None:
        return 0
    of, _, digits = cursor.partition(".")
    if of != tag or not re.fullmatch("[0-9a-f]{1,15}", digits):
        raise _bad(cursor)
    return int(digits, 16)


def _bad(cursor: str) -> UsageError:
    return UsageError(
        f"{cursor[:80]!r} is no cursor of this store", code="bad_cursor", hint="give next_cursor as it came"
    )
