"""Curation marks: what a person or a program thinks of a step, beside it and without any effect on leases."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.pool.faults import unknown_step
from moorage.pool.sqlite.appending import INTEGERS
from moorage.pool.sqlite.trajectories import need
from moorage.pool.sqlite.transaction import Transaction

__all__ = ["mark", "marks_of"]


def mark(transaction: Transaction, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
    """All marks that the step has now; None takes one away. Raises NotFoundError."""
    kept = need(transaction, uid)
    if step_index not in INTEGERS:
        raise unknown_step(uid, step_index)
    row = transaction.execute(
        "SELECT 1 FROM calls WHERE trajectory = ? AND step_index = ?", (kept.id, step_index)
    ).fetchone()
    if row is None:
        raise unknown_step(uid, step_index)
    merged = {**marks_of(transaction.db, kept.id, step_index), **marks}
    merged = {name: value for name, value in merged.items() if value is not None}
    if merged:
        values = (kept.id, step_index, msgspec.json.encode(merged))
        transaction.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", values)
    else:
        transaction.execute("DELETE FROM marks WHERE trajectory = ? AND step_index = ?", (kept.id, step_index))
    return merged


def marks_of(db: sqlite3.Connection, trajectory: int, step_index: int) -> dict[str, Any]:
    """{}: none."""
    row = db.execute(
        "SELECT marks FROM marks WHERE trajectory = ? AND step_index = ?", (trajectory, step_index)
    ).fetchone()
    return {} if row is None else msgspec.json.decode(row[0])
