"""Which trajectory's calls name which contents (tools, templates, metadata), so that what nobody names can go.

Committing a call writes nothing of it. Calls are gone through behind, once each, when something is to go. A content
goes in a transaction that has gone through every call there is.
"""

from __future__ import annotations

from typing import NamedTuple

from moorage.capture.chain import decode_record
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.records import read_record
from moorage.pool.sql.transaction import Transaction

__all__ = ["Named", "drop_loose", "name_uses", "new_uses"]

_PROGRESS = "uses"
_FEW = 100
"""Calls that a transaction goes through by itself."""
_AT_ONCE = 64


class Named(NamedTuple):
    """What the calls above `after`, up to `upto`, name."""

    after: int
    upto: int
    pairs: frozenset[tuple[bytes, int]]
    """(digest, trajectory)."""
    more: bool
    """Whether there are calls above `upto`, or may be."""


def new_uses(db: Connection, limit: int) -> Named:
    """Of at most `limit` calls that were not gone through yet."""
    after = db.execute("SELECT upto FROM progress WHERE name = ?", (_PROGRESS,)).fetchone()[0]
    rows = db.execute(
        "SELECT id, trajectory, record FROM calls WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()
    pairs = set()
    for number, trajectory, stored in rows:
        draft = decode_record(read_record(db, number, stored))
        for digest in (draft.sampling_digest, draft.metadata_digest, draft.tools_digest, draft.template_digest):
            if digest:
                pairs.add((digest, trajectory))
    return Named(after, rows[-1][0] if rows else after, frozenset(pairs), len(rows) == limit)


def name_uses(transaction: Transaction, named: Named) -> bool:
    """Whether they were noted; False: another one was first."""
    done = transaction.execute(
        "UPDATE progress SET upto = ? WHERE name = ? AND upto = ?", (named.upto, _PROGRESS, named.after)
    ).rowcount
    if done != 1:
        return False
    pairs = sorted(named.pairs)
    for start in range(0, len(pairs), _AT_ONCE):
        some = pairs[start : start + _AT_ONCE]
        marks = ", ".join(["(?, ?)"] * len(some))
        transaction.execute(
            f"INSERT INTO uses VALUES {marks} ON CONFLICT (digest, trajectory) DO NOTHING",  # noqa: S608
            [value for pair in some for value in pair],
        )
    return True


def drop_loose(transaction: Transaction) -> tuple[int, int] | None:
    """Remove some contents that nothing names: (how many were looked at, how many went).

    None: there are calls that were not gone through; `new_uses` and `name_uses` come first.
    """
    transaction.flush()
    named = new_uses(transaction.db, _FEW)
    if named.more:
        return None
    if named.upto > named.after and not name_uses(transaction, named):
        return None
    looked = [row[0] for row in transaction.execute("SELECT digest FROM loose LIMIT ?", (_AT_ONCE,)).fetchall()]
    if not looked:
        return 0, 0
    marks = ", ".join("?" * len(looked))
    gone = transaction.execute(
        f"SELECT digest FROM loose l WHERE digest IN ({marks})"  # noqa: S608
        " AND NOT EXISTS (SELECT 1 FROM uses u WHERE u.digest = l.digest)",
        looked,
    ).fetchall()
    if gone:
        transaction.remove()  # whoever believes them to be there must bring them again
    for (digest,) in gone:
        transaction.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
    transaction.execute(f"DELETE FROM loose WHERE digest IN ({marks})", looked)  # noqa: S608
    return len(looked), len(gone)
