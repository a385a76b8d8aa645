"""What is asked of sessions and their calls, each on a connection that only reads."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.capture.call import Call
from moorage.pool.contract import Kind, Trajectory
from moorage.pool.faults import unknown_trajectory
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.records import read_calls, read_record, unpack
from moorage.pool.sql.trajectories import KEPT, Kept, find, to_trajectory

__all__ = ["calls", "extras", "records", "sessions", "trajectory"]

_VARIABLES = 500
"""How many values one statement takes, well below any SQLite's limit."""


def trajectory(db: Connection, uid: str) -> Trajectory | None:
    kept = find(db, uid)
    return None if kept is None else to_trajectory(kept)


def calls(db: Connection, uid: str) -> list[Call]:
    """Raises NotFoundError."""
    kept = _need(db, uid)
    return read_calls(db, kept.id, kept.last_seq, kept.reward)


def records(db: Connection, uid: str) -> list[tuple[int, bytes, bytes]]:
    """(seq, record, hash). Raises NotFoundError."""
    rows = db.execute(
        "SELECT id, seq, record, hash FROM calls WHERE trajectory = ? ORDER BY seq", (_need(db, uid).id,)
    ).fetchall()
    return [(seq, read_record(db, number, stored), chained) for number, seq, stored, chained in rows]


def extras(db: Connection, uid: str, seqs: Sequence[int]) -> dict[int, bytes]:
    """Raises NotFoundError."""
    kept = _need(db, uid)
    found: dict[int, bytes] = {}
    for start in range(0, len(seqs), _VARIABLES):
        some = seqs[start : start + _VARIABLES]
        marks = ", ".join("?" * len(some))
        where = f"c.trajectory = ? AND c.seq IN ({marks})"
        rows = db.execute(
            f"SELECT c.seq, e.data FROM calls c JOIN extras e ON e.call = c.id WHERE {where}",  # noqa: S608
            (kept.id, *some),
        ).fetchall()
        found.update((seq, unpack(data)) for seq, data in rows)
    return found


def sessions(db: Connection, kind: Kind | None) -> list[Trajectory]:
    """Those that are not deleted, oldest first."""
    which = "" if kind is None else f" AND t.kind = '{kind}'"  # spelled out, so that its index is found
    rows = db.execute(
        f"SELECT {KEPT} FROM trajectories t WHERE t.state <> 'deleted'{which} ORDER BY t.id"  # noqa: S608
    ).fetchall()
    return [to_trajectory(Kept(*row)) for row in rows]


def _need(db: Connection, uid: str) -> Kept:
    kept = find(db, uid)
    if kept is None:
        raise unknown_trajectory(uid)
    return kept
