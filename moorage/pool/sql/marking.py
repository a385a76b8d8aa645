"""Curation marks as they are kept, beside their steps. What they may be is said in `moorage.pool.marks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.pool.faults import unknown_step
from moorage.pool.marks import merged
from moorage.pool.sql.appending import INTEGERS
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.trajectories import need
from moorage.pool.sql.transaction import Transaction

__all__ = ["mark", "marks_of", "marks_of_all"]


_SET = """
    INSERT INTO marks VALUES (?, ?, ?) ON CONFLICT (trajectory, step_index) DO UPDATE SET marks = excluded.marks
"""


def mark(transaction: Transaction, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
    """All marks that the step has now; None takes one away. Raises NotFoundError, UsageError `bad_marks`."""
    kept = need(transaction, uid)
    if step_index not in INTEGERS:
        raise unknown_step(uid, step_index)
    row = transaction.execute(
        "SELECT 1 FROM calls WHERE trajectory = ? AND step_index = ?", (kept.id, step_index)
    ).fetchone()
    if row is None:
        raise unknown_step(uid, step_index)
    now = merged(msgspec.json.decode(marks_of(transaction.db, kept.id, step_index)), marks)
    if now:
        values = (kept.id, step_index, msgspec.json.encode(now))
        transaction.execute(_SET, values)
    else:
        transaction.execute("DELETE FROM marks WHERE trajectory = ? AND step_index = ?", (kept.id, step_index))
    return now


def marks_of(db: Connection, trajectory: int, step_index: int) -> bytes:
    """JSON."""
    row = db.execute(
        "SELECT marks FROM marks WHERE trajectory = ? AND step_index = ?", (trajectory, step_index)
    ).fetchone()
    return b"{}" if row is None else row[0]


def marks_of_all(db: Connection, trajectory: int) -> dict[int, dict[str, Any]]:
    """step_index → marks, of the steps that have some."""
    rows = db.execute("SELECT step_index, marks FROM marks WHERE trajectory = ?", (trajectory,)).fetchall()
    return {step_index: msgspec.json.decode(marks) for step_index, marks in rows}
