"""The order of commits, read as events: calls are steps, the rest has rows of its own."""

from __future__ import annotations

from moorage.pool.contract import Event
from moorage.pool.sql.connection import Connection

__all__ = ["latest", "read"]

_SELECT = """
    SELECT c.id, 'step', t.channel, c.at, t.uid, t.prompt_uid, c.step_index, NULL, NULL
      FROM calls c CROSS JOIN trajectories t WHERE t.id = c.trajectory AND c.id > ?
    UNION ALL
    SELECT e.id, e.type, e.channel, e.at, e.trajectory_uid, e.prompt_uid, NULL, e.lease_id, e.consumer
      FROM events e WHERE e.id > ?
    ORDER BY 1 LIMIT ?
"""


def read(db: Connection, after: int, limit: int) -> list[Event]:
    """The next events after one, of all channels, in order."""
    names = ("id", "type", "channel", "at", "trajectory_uid", "prompt_uid", "step_index", "lease_id", "consumer")
    rows = db.execute(_SELECT, (after, after, limit)).fetchall()
    return [Event(**dict(zip(names, row, strict=True))) for row in rows]


def latest(db: Connection) -> int:
    """The last event there is; 0: none."""
    row = db.execute("SELECT (SELECT max(id) FROM calls), (SELECT max(id) FROM events)").fetchone()
    return max(row[0] or 0, row[1] or 0)
