"""What may go is found, and goes: whole trajectories, in transactions that are small.

A trajectory goes in two steps. First its row and what hangs on it, so that nobody sees it any more; its number stands
in `leavings`. Then its calls, some at a time, which nothing but that number leads to. Whatever is cut off in between
is finished by whoever cleans up next.

Two trajectories never go, since their numbers would be given again: the one that was made last, and the one that was
called last. Nor does the last event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moorage.pool.contract import Retention
from moorage.pool.retention import Member, Unit, fate_alone, fate_of_round
from moorage.pool.sql import tallies
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.trajectories import count_group
from moorage.pool.sql.transaction import Transaction

__all__ = ["alone", "clear", "detach", "rounds", "size_of"]

_MEMBER = """t.id, t.uid, coalesce(t.channel, 'train'),
    coalesce((SELECT max(c.seq) + 1 FROM calls c WHERE c.trajectory = t.id), 0),
    t.created_at, t.completed_at,
    (SELECT c.at FROM calls c WHERE c.trajectory = t.id ORDER BY c.seq DESC LIMIT 1),
    EXISTS (SELECT 1 FROM marks m WHERE m.trajectory = t.id)"""


def rounds(db: Connection, ask: Retention, until: float, after: int, limit: int) -> tuple[list[Unit], int | None]:
    """Rounds that may go, of the next `limit` ones, and where to go on; None: nothing older comes."""
    rows = db.execute(
        "SELECT id, state, expires_at FROM rounds WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()
    may = [number for number, state, ends in rows if fate_of_round(state) and ends <= until]
    newest = _newest(db)
    found = (_round(db, number) for number in may)
    units = [unit for unit in found if unit is not None and _may_go(unit, ask, until, newest)]
    over = len(rows) < limit or all(ends > until for _, _, ends in rows)
    return units, None if over else rows[-1][0]


def alone(db: Connection, ask: Retention, until: float, after: int, limit: int) -> tuple[list[Unit], int | None]:
    """The same of trajectories that are in no round."""
    rows = db.execute(
        "SELECT id, created_at, state, round_id FROM trajectories WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()
    may = [
        number
        for number, created_at, state, round_id in rows
        if created_at <= until and round_id is None and state != "open"
    ]
    newest = _newest(db)
    found = (_alone(db, number, ask.n_rollouts) for number in may)
    units = [unit for unit in found if unit is not None and _may_go(unit, ask, until, newest)]
    over = len(rows) < limit or all(row[1] > until for row in rows)
    return units, None if over else rows[-1][0]


def size_of(db: Connection, unit: Unit) -> int:
    """Bytes of its calls."""
    return sum(tallies.of_trajectory(db, one.number).get("bytes", 0) for one in unit.members)


def detach(transaction: Transaction, units: Sequence[Unit], ask: Retention, until: float) -> list[Unit]:
    """Take them out of sight; those that went. What is not as it was when it was chosen stays."""
    newest = _newest(transaction.db)
    gone = []
    for unit in units:
        if _may_go(unit, ask, until, newest) and _is_same(transaction.db, unit, ask):
            _detach(transaction, unit)
            gone.append(unit)
    return gone


def clear(transaction: Transaction, limit: int) -> int:
    """Remove about `limit` calls of what is out of sight. 0: nothing is left of any."""
    rows = transaction.execute("SELECT trajectory FROM leavings ORDER BY trajectory LIMIT ?", (limit,)).fetchall()
    done = 0
    for (number,) in rows:
        done += 1 + _clear(transaction, number, limit - done)
        if done >= limit:
            break
    return done


def _clear(transaction: Transaction, number: int, limit: int) -> int:
    """The first `limit` calls of one; how many there were."""
    upto, many = transaction.execute(
        "SELECT coalesce(max(id), 0), count(*)"
        " FROM (SELECT id FROM calls WHERE trajectory = ? ORDER BY seq LIMIT ?) AS found",
        (number, limit),
    ).fetchone()
    which = "SELECT c.id FROM calls c WHERE c.trajectory = ? AND c.id <= ?"
    transaction.execute(
        "DELETE FROM pieces WHERE id IN (SELECT p.id FROM calls c JOIN pieces p"
        " ON p.id >= c.id * 65536 AND p.id < (c.id + 1) * 65536 WHERE c.trajectory = ? AND c.id <= ?)",
        (number, upto),
    )
    transaction.execute(f"DELETE FROM extras WHERE call IN ({which})", (number, upto))  # noqa: S608
    transaction.execute("DELETE FROM calls WHERE trajectory = ? AND id <= ?", (number, upto))
    if many < limit:
        transaction.execute(
            "INSERT INTO loose SELECT digest FROM uses WHERE trajectory = ? ON CONFLICT (digest) DO NOTHING", (number,)
        )
        transaction.execute("DELETE FROM uses WHERE trajectory = ?", (number,))
        transaction.execute("DELETE FROM leavings WHERE trajectory = ?", (number,))
    return int(many)


def _round(db: Connection, number: int) -> Unit | None:
    """None: it is gone, or it stays."""
    row = db.execute("SELECT state, expires_at FROM rounds WHERE id = ?", (number,)).fetchone()
    fate = None if row is None else fate_of_round(row[0])
    if fate is None:
        return None
    members = tuple(_members(db, "t.round_id = ?", number))
    touched_at = max((one.touched_at for one in members), default=0.0)
    return Unit(number, fate, max(touched_at, row[1]), members)


def _alone(db: Connection, number: int, n_rollouts: int) -> Unit | None:
    """None: it is gone, it is in a round, or it stays."""
    row = db.execute(
        "SELECT t.state, coalesce(g.waiting, 0), coalesce(g.running, 0) FROM trajectories t"
        " LEFT JOIN groups g ON g.id = t.group_id WHERE t.id = ? AND t.round_id IS NULL",
        (number,),
    ).fetchone()
    fate = None if row is None else fate_alone(row[0], row[1], row[2], n_rollouts)
    if fate is None:
        return None
    (member,) = _members(db, "t.id = ?", number)
    return Unit(None, fate, member.touched_at, (member,))


def _members(db: Connection, where: str, number: int) -> Iterator[Member]:
    rows = db.execute(f"SELECT {_MEMBER} FROM trajectories t WHERE {where} ORDER BY t.id", (number,))  # noqa: S608
    for row_id, uid, channel, calls, created_at, completed_at, called_at, marked in rows.fetchall():
        touched_at = max(created_at, completed_at or 0.0, called_at or 0.0)
        yield Member(row_id, uid, channel, calls, touched_at, bool(marked))


def _newest(db: Connection) -> frozenset[int]:
    """The trajectories that stay for their numbers."""
    made = db.execute("SELECT max(id) FROM trajectories").fetchone()
    called = db.execute("SELECT trajectory FROM calls ORDER BY id DESC LIMIT 1").fetchone()
    return frozenset(row[0] for row in (made, called) if row is not None and row[0] is not None)


def _may_go(unit: Unit, ask: Retention, until: float, newest: frozenset[int]) -> bool:
    if unit.touched_at > until or unit.fate in ask.keep:
        return False
    if "marked" in ask.keep and any(one.marked for one in unit.members):
        return False
    return all(one.number not in newest for one in unit.members)


def _is_same(db: Connection, unit: Unit, ask: Retention) -> bool:
    number = unit.round_id
    now = _alone(db, unit.members[0].number, ask.n_rollouts) if number is None else _round(db, number)
    return now == unit and _is_folded(db, unit)


def _is_folded(db: Connection, unit: Unit) -> bool:
    """Whether its calls are counted, so that they can be taken off."""
    upto = tallies.folded(db)
    for one in unit.members:
        row = db.execute("SELECT max(id) FROM calls WHERE trajectory = ?", (one.number,)).fetchone()
        if row[0] is not None and row[0] > upto:
            return False
    return True


def _detach(transaction: Transaction, unit: Unit) -> None:
    groups = {_detach_member(transaction, one) for one in unit.members}
    if unit.round_id is not None:
        _detach_round(transaction, unit)
    for group_id in groups:
        if group_id is not None:
            _leave_group(transaction, group_id)


def _detach_member(transaction: Transaction, one: Member) -> int | None:
    """Its group."""
    for what, many in tallies.of_trajectory(transaction.db, one.number).items():
        transaction.tallies.add(one.channel, what, -many)
    state, group_id = transaction.execute(
        "SELECT state, group_id FROM trajectories WHERE id = ?", (one.number,)
    ).fetchone()
    if state != "deleted":
        transaction.tallies.add(one.channel, state, -1)
    transaction.execute("DELETE FROM marks WHERE trajectory = ?", (one.number,))
    transaction.execute("DELETE FROM events WHERE trajectory_uid = ? AND id < (SELECT max(id) FROM events)", (one.uid,))
    transaction.execute("DELETE FROM trajectories WHERE id = ?", (one.number,))
    transaction.execute("INSERT INTO leavings VALUES (?)", (one.number,))
    transaction.wrote(one.uid)
    transaction.knowledge.paths.pop(one.number, None)
    return group_id  # type: ignore[no-any-return]


def _detach_round(transaction: Transaction, unit: Unit) -> None:
    number = unit.round_id
    (channel,) = transaction.execute(
        "SELECT g.channel FROM rounds r JOIN groups g ON g.id = r.group_id WHERE r.id = ?", (number,)
    ).fetchone()
    transaction.execute(
        "DELETE FROM events WHERE lease_id IN (SELECT lease_id FROM leases WHERE round_id = ?)"
        " AND id < (SELECT max(id) FROM events)",
        (number,),
    )
    transaction.execute("DELETE FROM leases WHERE round_id = ?", (number,))
    transaction.execute("DELETE FROM rounds WHERE id = ?", (number,))
    transaction.tallies.add(channel, unit.fate, -1)


def _leave_group(transaction: Transaction, group_id: int) -> None:
    """Counted anew; a group that has nothing any more goes too."""
    count_group(transaction, group_id)
    for table in ("trajectories", "rounds"):
        left = transaction.execute(f"SELECT 1 FROM {table} WHERE group_id = ? LIMIT 1", (group_id,))  # noqa: S608
        if left.fetchone() is not None:
            return
    transaction.execute("DELETE FROM groups WHERE id = ?", (group_id,))
