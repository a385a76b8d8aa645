"""How many there are of what, by channel, so that nobody counts rows to tell.

    open, complete           trajectories
    gathering                groups with open trajectories, or complete ones in no round; size: how many are complete
    waiting                  rounds that will be delivered again; size: how many trajectories they have
    leased, acked, dropped   rounds
    steps, late, bytes       calls

What is said of trajectories, groups and rounds is written in the transaction that changes it. Calls are folded in
behind: committing one must not cost a statement more. A reader counts those above the last one that is folded, a
writer adds what it counted if nobody else did meanwhile; who asks in between counts the few that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from moorage.pool.groups import is_ready, shown_state
from moorage.pool.sql.connection import Connection

__all__ = [
    "Counted",
    "Tallies",
    "content_bytes",
    "count_new",
    "fold",
    "folded",
    "gathering",
    "of_round",
    "of_trajectory",
    "stats",
]

_FOLD = "calls"
_STATES = ("open", "ready", "leased", "acked", "dropped")
_BYTES = """length(c.record) + 160
    + coalesce((SELECT length(e.data) FROM extras e WHERE e.call = c.id), 0)
    + coalesce((SELECT sum(length(p.data)) FROM pieces p WHERE p.id >= c.id * 65536 AND p.id < (c.id + 1) * 65536), 0)
    """
"""Of a call: besides its record it takes about 160, for its row's other columns and its index entries."""
_ALL = 1 << 62


class Tallies:
    """What one transaction changes: by operation, since an operation may be undone, and all that will be written."""

    def __init__(self) -> None:
        self._now: dict[tuple[str, str, int], int] = {}
        self._all: dict[tuple[str, str, int], int] = {}

    def add(self, channel: str, what: str, many: int, size: int = 0) -> None:
        key = (channel, what, size)
        self._now[key] = self._now.get(key, 0) + many

    def move(self, channel: str, before: tuple[str, int] | None, after: tuple[str, int] | None) -> None:
        """One of `before` (what, size) is one of `after` now; None: it was not counted, or is not any more."""
        if before != after:
            if before is not None:
                self.add(channel, before[0], -1, before[1])
            if after is not None:
                self.add(channel, after[0], 1, after[1])

    def keep(self) -> None:
        """The operation is done."""
        for key, many in self._now.items():
            self._all[key] = self._all.get(key, 0) + many
        self._now.clear()

    def drop(self) -> None:
        """The operation is undone."""
        self._now.clear()

    def write(self, db: Connection) -> None:
        """At the end, in an order that is the same for all writers, so that none waits for another in a circle."""
        if not (self._now or self._all):
            return
        self.keep()
        rows = sorted((*key, many) for key, many in self._all.items() if many)
        self._all.clear()
        for start in range(0, len(rows), 32):
            some = rows[start : start + 32]
            marks = ", ".join(["(?, ?, ?, ?)"] * len(some))
            db.execute(
                f"INSERT INTO tallies VALUES {marks} ON CONFLICT (channel, what, size)"  # noqa: S608
                " DO UPDATE SET many = tallies.many + excluded.many",
                [value for row in some for value in row],
            )


def gathering(complete: int, running: int) -> tuple[str, int] | None:
    """How a group is counted that has so many complete trajectories in no round, and open ones."""
    return ("gathering", complete) if complete or running else None


def of_round(state: str, size: int) -> tuple[str, int]:
    """How a round is counted."""
    return (state, size if state == "waiting" else 0)


class Counted(NamedTuple):
    """Calls above `after`, up to `upto`."""

    after: int
    upto: int
    many: Mapping[tuple[str, str], int]
    """(channel, what)."""
    more: bool
    """Whether there are calls above `upto`, or may be."""


def count_new(db: Connection, limit: int) -> Counted:
    """At most `limit` calls that are not folded in."""
    after = db.execute("SELECT upto FROM progress WHERE name = ?", (_FOLD,)).fetchone()[0]
    upto, many = db.execute(
        "SELECT max(id), count(*) FROM (SELECT id FROM calls WHERE id > ? ORDER BY id LIMIT ?) AS found", (after, limit)
    ).fetchone()
    if upto is None:
        return Counted(after, after, {}, more=False)
    return Counted(after, upto, _count(db, after, upto, None), more=many == limit)


def fold(db: Connection, counted: Counted, tallies: Tallies) -> bool:
    """Whether they were added; False: another one was first."""
    done = db.execute(
        "UPDATE progress SET upto = ? WHERE name = ? AND upto = ?", (counted.upto, _FOLD, counted.after)
    ).rowcount
    if done != 1:
        return False
    for (channel, what), many in counted.many.items():
        tallies.add(channel, what, many)
    return True


def folded(db: Connection) -> int:
    """Calls up to this one are counted."""
    return int(db.execute("SELECT upto FROM progress WHERE name = ?", (_FOLD,)).fetchone()[0])


def stats(db: Connection, channel: str | None, default_channel: str, n_rollouts: int, now: float) -> dict[str, Any]:
    """Counts by channel; the channel that was asked for is there also when it is empty."""
    counted: dict[str, Any] = {channel or default_channel: _nothing()}
    where, values = ("", ()) if channel is None else (" AND channel = ?", (channel,))
    rows = db.execute(f"SELECT channel, what, size, many FROM tallies WHERE many <> 0{where}", values)  # noqa: S608
    for named, what, size, many in rows.fetchall():
        _show(counted.setdefault(named, _nothing()), what, size, many, n_rollouts)
    for (named, what), many in _count(db, folded(db), None, channel).items():
        _show(counted.setdefault(named, _nothing()), what, 0, many, n_rollouts)
    _hold_back(db, channel, n_rollouts, now, counted)
    return counted


def content_bytes(db: Connection) -> int:
    """Of all calls, as `max_bytes` counts."""
    kept = db.execute("SELECT CAST(coalesce(sum(many), 0) AS BIGINT) FROM tallies WHERE what = 'bytes'").fetchone()[0]
    new = _count(db, folded(db), None, None)
    return int(kept) + sum(many for (_, what), many in new.items() if what == "bytes")


def of_trajectory(db: Connection, trajectory: int) -> dict[str, int]:
    """What its calls count for, by what."""
    rows = db.execute(
        f"SELECT c.flags, count(*), CAST(sum({_BYTES}) AS BIGINT) FROM calls c WHERE c.trajectory = ? GROUP BY 1",  # noqa: S608
        (trajectory,),
    ).fetchall()
    return _by_what(rows)


def _count(db: Connection, after: int, upto: int | None, channel: str | None) -> dict[tuple[str, str], int]:
    where, values = ("", [after]) if upto is None else (" AND c.id <= ?", [after, upto])
    if channel is not None:
        where, values = f"{where} AND t.channel = ?", [*values, channel]  # type: ignore[list-item]
    # The limit keeps the inner query apart: without it SQLite would sort whole records to group them.
    rows = db.execute(
        "SELECT channel, flags, count(*), CAST(sum(size) AS BIGINT) FROM ("  # noqa: S608
        f"SELECT t.channel AS channel, c.flags AS flags, {_BYTES} AS size FROM calls c CROSS JOIN trajectories t"
        f" WHERE t.id = c.trajectory AND c.id > ?{where} LIMIT ?) AS found GROUP BY 1, 2",
        [*values, _ALL],
    ).fetchall()
    found: dict[tuple[str, str], int] = {}
    for named in {row[0] for row in rows}:
        for what, many in _by_what([row[1:] for row in rows if row[0] == named]).items():
            found[named, what] = many
    return found


def _by_what(rows: list[Any]) -> dict[str, int]:
    """Of (flags, how many, bytes): a late call is late, delivered or not; one that nobody got is nothing else."""
    found = {"steps": 0, "late": 0, "bytes": 0}
    for flags, many, size in rows:
        found["bytes"] += size
        if flags & 1:
            found["late"] += many
        elif flags == 0:
            found["steps"] += many
    return {what: many for what, many in found.items() if many}


def _show(shown: dict[str, Any], what: str, size: int, many: int, n_rollouts: int) -> None:
    if what in ("steps", "late"):
        shown["steps" if what == "steps" else "late_steps"] += many
    elif what in ("open", "complete"):
        shown["trajectories"][what] += many
    elif what == "gathering":
        shown["groups"]["ready" if is_ready(size, n_rollouts) else "open"] += many
    elif what != "bytes":  # a round: those that are delayed are told apart afterwards
        shown["groups"][shown_state(what, size, 0.0, 0.0, n_rollouts)] += many  # type: ignore[arg-type]


def _hold_back(db: Connection, channel: str | None, n_rollouts: int, now: float, counted: dict[str, Any]) -> None:
    """Rounds that were given back for later are open until then."""
    where, values = ("", ()) if channel is None else (" AND g.channel = ?", (channel,))
    rows = db.execute(
        "SELECT g.channel, r.size, count(*) FROM rounds r JOIN groups g ON g.id = r.group_id"  # noqa: S608
        f" WHERE r.state = 'waiting' AND r.not_before > ?{where} GROUP BY 1, 2",
        (now, *values),
    )
    for named, size, many in rows.fetchall():
        if is_ready(size, n_rollouts):
            counted[named]["groups"]["ready"] -= many
            counted[named]["groups"]["open"] += many


def _nothing() -> dict[str, Any]:
    return {
        "steps": 0,
        "late_steps": 0,
        "trajectories": {"open": 0, "complete": 0},
        "groups": dict.fromkeys(_STATES, 0),
    }
