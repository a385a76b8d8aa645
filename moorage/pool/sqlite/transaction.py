"""What the operations of one commit share: the connection, the time, the sequence of commits, and what is known.

The caches hold what the file says, as long as nobody else writes: another process's commit empties them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from moorage.pool.sqlite.records import Packer

__all__ = ["Head", "Knowledge", "Transaction"]

_HEADS = 16_384
_DIGESTS = 8_192
_ROWS = 32


class Head:
    """Where a trajectory's next call goes."""

    __slots__ = ("hash", "late", "row_version", "seq", "step_index", "trajectory")

    def __init__(
        self, trajectory: int, *, seq: int, step_index: int, chained: bytes, late: bool, row_version: int
    ) -> None:
        self.trajectory = trajectory
        self.seq = seq
        self.step_index = step_index
        self.hash = chained
        self.late = late
        self.row_version = row_version


class Knowledge:
    """What the writer remembers between commits. Forgotten after every fault and every other process's commit."""

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.digests: set[bytes] = set()
        self.paths: dict[int, tuple[int, bytes]] = {}
        """Trajectory → (seq, prompt and completion) of its latest submitted step."""
        self.number: int | None = None
        self._data_version: int | None = None

    def refresh(self, db: sqlite3.Connection) -> None:
        """At the beginning of a transaction."""
        version = db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self.forget()
            self._data_version = version
        if len(self.heads) > _HEADS or len(self.digests) > _DIGESTS:
            self.heads.clear()
            self.digests.clear()
        if self.number is None:
            row = db.execute("SELECT (SELECT max(id) FROM calls), (SELECT max(id) FROM events)").fetchone()
            self.number = max(row[0] or 0, row[1] or 0)

    def doubt(self) -> None:
        """An operation was undone: what it may have added here is not in the file."""
        self.heads.clear()
        self.digests.clear()
        self.paths.clear()

    def forget(self) -> None:
        """Another process wrote, or a commit failed."""
        self.doubt()
        self.number = None
        self._data_version = None


class Transaction:
    """One commit's worth of operations. Rows of calls are gathered and written together, by `flush`."""

    def __init__(
        self,
        db: sqlite3.Connection,
        knowledge: Knowledge,
        packer: Packer,
        *,
        now: float,
        make_id: Callable[[], str],
        max_attempts: int,
    ) -> None:
        self.db = db
        self.knowledge = knowledge
        self.packer = packer
        self.now = now
        self.make_id = make_id
        self.max_attempts = max_attempts
        self.group_changed = False
        """Whether a group may have become ready."""
        self.look_ahead = False
        """Whether the next deadline may be another one now."""
        self._calls: list[tuple[Any, ...]] = []
        self._pieces: list[tuple[int, bytes]] = []
        self._extras: list[tuple[int, bytes]] = []
        self._blobs: list[tuple[bytes, bytes]] = []

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self.db.execute(statement, values)

    def number(self) -> int:
        """The next place in the order of commits."""
        knowledge = self.knowledge
        assert knowledge.number is not None
        knowledge.number += 1
        return knowledge.number

    def event(
        self,
        kind: str,
        channel: str,
        *,
        trajectory_uid: str | None = None,
        prompt_uid: str | None = None,
        lease_id: str | None = None,
        consumer: str | None = None,
    ) -> None:
        self.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self.number(), kind, channel, self.now, trajectory_uid, prompt_uid, lease_id, consumer),
        )

    def add_call(
        self,
        trajectory: int,
        seq: int,
        step_index: int,
        *,
        flags: int,
        policy_version: int,
        chained: bytes,
        record: bytes,
        reward: float | None = None,
        content: bytes | None = None,
        extras: bytes | None = None,
    ) -> None:
        """A call's rows, in the order of commits. `extras`: uncompressed."""
        number = self.number()
        stored, pieces = self.packer.record(number, record)
        self._calls.append(
            (number, trajectory, seq, step_index, flags, policy_version, self.now, reward, content, chained, stored)
        )
        if pieces:
            self._pieces.extend(pieces)
        if extras:
            self._extras.append((number, self.packer.text(extras)))

    def add_blob(self, digest: bytes, content: bytes) -> None:
        """Content under its digest, unless it is there."""
        known = self.knowledge.digests
        if digest not in known:
            known.add(digest)
            self._blobs.append((digest, self.packer.text(content)))

    def flush(self) -> None:
        """Write what was gathered: before anything reads it, and at the end."""
        if not self._calls:
            return
        self._insert("INSERT INTO calls VALUES", self._calls)
        self._insert("INSERT INTO pieces VALUES", self._pieces)
        self._insert("INSERT INTO extras VALUES", self._extras)
        self._insert("INSERT OR IGNORE INTO blobs VALUES", self._blobs)
        self.drop_gathered()

    def _insert(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Many rows a statement: each gives the interpreter away, and a busy event loop gives it back late."""
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            marks = f"({', '.join('?' * len(some[0]))})"
            values = [value for row in some for value in row]
            self.db.execute(f"{statement} {', '.join([marks] * len(some))}", values)

    def drop_gathered(self) -> None:
        for rows in (self._calls, self._pieces, self._extras, self._blobs):
            rows.clear()
