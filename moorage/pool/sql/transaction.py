"""What the operations of one commit share: the connection, the time, the sequence of commits, and what is known.

What is remembered between commits is true as long as nobody else writes. After another process's commit (another
*epoch*) a head is looked at before it is believed; contents under their digests only ever go when something is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from moorage.pool.sql.connection import Connection, Dialect, Rows
from moorage.pool.sql.records import Packer
from moorage.pool.sql.tallies import Tallies

__all__ = ["Head", "Knowledge", "Transaction", "stamp_of"]

_HEADS = 16_384
_DIGESTS = 8_192


def stamp_of(trajectory: int, version: int) -> int:
    """A trajectory's stamp, where its row and version make it."""
    return trajectory << 48 | version


class Head:
    """Where a trajectory's next call goes."""

    __slots__ = ("epoch", "hash", "late", "row_version", "seq", "slot", "stamp", "step_index", "trajectory")

    def __init__(
        self, trajectory: int, *, seq: int, step_index: int, chained: bytes, late: bool, row_version: int
    ) -> None:
        self.trajectory = trajectory
        self.seq = seq
        self.step_index = step_index
        self.hash = chained
        self.late = late
        self.row_version = row_version
        self.slot = 0
        self.stamp = 0
        self.epoch = 0


class Slots(Protocol):
    """Stamps as all processes of a machine share them."""

    def slot(self, uid: str) -> int:
        """Where a trajectory's stamp stands."""

    def begun(self, slot: int) -> int:
        """The stamp, inside a transaction."""


class Knowledge:
    """What the writer remembers between commits. Forgotten after every fault."""

    def __init__(self, slots: Slots | None = None) -> None:
        """`slots`: where a trajectory's stamp can be had for nothing; None: it takes a query."""
        self.heads: dict[str, Head] = {}
        self.digests: set[bytes] = set()
        self.paths: dict[int, tuple[int, bytes]] = {}
        """Trajectory → (seq, prompt and completion) of its latest submitted step."""
        self.number: int | None = None
        """The latest place in the order of commits."""
        self.epoch = 0
        self._removals: int | None = None
        self._slots = slots

    def head(self, uid: str) -> Head | None:
        """None: the database must be asked."""
        head = self.heads.get(uid)
        if head is None or head.epoch == self.epoch:
            return head
        if self._slots is not None and self._slots.begun(head.slot) == head.stamp:
            head.epoch = self.epoch
            return head
        del self.heads[uid]
        return None

    def learn(self, uid: str, head: Head) -> None:
        """What the database said in this transaction."""
        head.epoch = self.epoch
        if self._slots is not None:
            head.slot = self._slots.slot(uid)
            head.stamp = self._slots.begun(head.slot)
        self.heads[uid] = head

    def others_wrote(self, number: int, removals: int) -> None:
        """Another process's commits, or the first look: up to which number, and how often something was removed."""
        self.epoch += 1
        self.number = number
        if removals != self._removals:
            self.doubt()
            self._removals = removals

    def shrink(self) -> None:
        if len(self.heads) > _HEADS or len(self.digests) > _DIGESTS:
            self.heads.clear()
            self.digests.clear()

    def doubt(self) -> None:
        """An operation was undone: what it may have added here is not in the database."""
        self.heads.clear()
        self.digests.clear()
        self.paths.clear()

    def forget(self) -> None:
        """A commit failed."""
        self.doubt()
        self.number = None
        self._removals = None


class Transaction:
    """One commit's worth of operations. Rows of calls are gathered and written together, by `flush`."""

    def __init__(
        self,
        db: Connection,
        dialect: Dialect,
        knowledge: Knowledge,
        packer: Packer,
        *,
        now: float,
        make_id: Callable[[], str],
        max_attempts: int,
        stamp: int | None,
    ) -> None:
        """`stamp`: of every trajectory that this commit writes; None: `stamp_of` its row."""
        self.db = db
        self.dialect = dialect
        self.knowledge = knowledge
        self.packer = packer
        self.now = now
        self.make_id = make_id
        self.max_attempts = max_attempts
        self.stamp = stamp
        self.group_changed = False
        """Whether a group may have become ready."""
        self.touched: set[str] = set()
        """Uids that were written; "" for what all gateways share. Those that only got calls are in `slots`."""
        self.slots: set[int] = set()
        """Of the heads that took calls, where stamps have slots."""
        self.look_ahead = False
        """Whether the next deadline may be another one now."""
        self.tallies = Tallies()
        """What is one more, and one less."""
        self.removed = False
        """Whether rows that were committed before were taken away."""
        self._calls: list[tuple[Any, ...]] = []
        self._pieces: list[tuple[int, bytes]] = []
        self._extras: list[tuple[int, bytes]] = []
        self._blobs: list[tuple[bytes, bytes]] = []

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        return self.db.execute(statement, values)

    def add(self, statement: str, values: Sequence[Any]) -> int:
        """Insert a row that the database numbers; its `id`."""
        return self.dialect.add(self.db, statement, values)

    def wrote(self, uid: str) -> None:
        """Its row was written: copies of it are stale."""
        self.touched.add(uid)
        self.knowledge.heads.pop(uid, None)

    def remove(self) -> None:
        """Rows are being taken away: contents that somebody believes to be there may be gone."""
        self.removed = True
        self.knowledge.doubt()

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
        self._add_rows("calls", self._calls)
        self._add_rows("pieces", self._pieces)
        self._add_rows("extras", self._extras)
        self._add_rows("blobs", self._blobs)
        self.drop_gathered()

    def _add_rows(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self.dialect.add_rows(self.db, table, rows)

    def drop_gathered(self) -> None:
        for rows in (self._calls, self._pieces, self._extras, self._blobs):
            rows.clear()
