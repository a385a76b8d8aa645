"""Commits batches of writes to the file: one transaction each, on the disk when it returns."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from moorage.pool.faults import StoreFault, restored
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.leasing import next_deadline
from moorage.pool.sql.records import Packer
from moorage.pool.sql.transaction import Knowledge, Transaction
from moorage.pool.sql.writing import Asked, Committed, Settled, perform
from moorage.pool.sqlite.place import BUSY_S, Identity, Place, is_busy
from moorage.pool.sqlite.stamps import Stamps

__all__ = ["SqliteDialect", "Writer"]

_NAP_S = (0.0005, 0.001, 0.002)
"""Between two looks whether another process's transaction is over."""
_ROWS = 32


class SqliteDialect:
    """`moorage.pool.sql.connection.Dialect`."""

    def add(self, db: Connection, statement: str, values: Sequence[Any]) -> int:
        return int(db.execute(statement, values).lastrowid)  # type: ignore[attr-defined]

    def add_rows(self, db: Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Many rows a statement: each gives the interpreter away, and a busy event loop gives it back late.

        With OR FAIL, the rows before one that is refused stay until the caller rolls back, as each does. Without it
        SQLite copies every page before it changes it, to undo the statement alone.
        """
        known = " ON CONFLICT DO NOTHING" if table == "blobs" else ""
        marks = f"({', '.join('?' * len(rows[0]))})"
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            values = [value for row in some for value in row]
            db.execute(f"INSERT OR FAIL INTO {table} VALUES {', '.join([marks] * len(some))}{known}", values)  # noqa: S608


class Writer:
    """`moorage.pool.sql.writing.Committer` of one file. Nothing is ever in doubt: the commit is ours to make."""

    doubtful = False

    def __init__(
        self,
        place: Place,
        stamps: Stamps,
        *,
        clock: Callable[[], float],
        make_id: Callable[[], str],
        max_attempts: int,
    ) -> None:
        self._place = place
        self._stamps = stamps
        self._clock = clock
        self._make_id = make_id
        self._max_attempts = max_attempts
        self._knowledge = Knowledge(stamps)
        self._data_version: int | None = None
        self._highest = 0
        """The latest number that was ever seen here: a file that ends before it is an older copy."""
        self._others_wrote = False
        """Whether they did before this commit."""
        self._dialect = SqliteDialect()
        self._packer = Packer()
        self._db: sqlite3.Connection | None = None
        self._identity: Identity = ()
        self._settled = False
        """What killed processes left of stamps was looked at."""

    def open(self) -> None:
        """Open the file. Raises PreflightError. Blocks: for another thread than the event loop's."""
        try:
            self._adopt(self._place.create(self._clock()))
        except OSError as fault:
            raise self._place.unusable(fault) from fault

    def close(self) -> list[Settled]:
        self._let_go()
        return []

    def settle(self) -> list[Settled]:
        return []

    def commit(self, batch: list[Asked]) -> list[Settled]:
        self._others_wrote = False
        try:
            if self._db is None:
                self._adopt(self._place.reopen(self._clock()))
            self._place.check(self._identity)
            transaction = self._begin(self._db)
            outcomes = perform(transaction, batch, _is_fault)
            looked_ahead = transaction.look_ahead
            deadline = next_deadline(transaction) if looked_ahead else None
            self._end(transaction)
        except (sqlite3.Error, OSError, StoreFault) as fault:
            self._let_go()
            return [Settled(batch, [self._fault(fault) for _ in batch], None)]
        except Exception as fault:  # a fault of ours must not leave anybody waiting
            self._let_go()
            return [Settled(batch, [fault for _ in batch], None)]
        changed = Committed(transaction.group_changed, looked_ahead, deadline, self._highest, self._others_wrote)
        return [Settled(batch, outcomes, changed)]

    def _fault(self, cause: sqlite3.Error | OSError | StoreFault) -> StoreFault:
        """One for each who asked: an exception is raised once."""
        told = cause if isinstance(cause, StoreFault) else self._place.fault(cause)
        fault = StoreFault(told.message, code=told.code, hint=told.hint)
        fault.__cause__ = cause
        return fault

    def _begin(self, db: sqlite3.Connection | None) -> Transaction:
        assert db is not None
        patience = time.monotonic() + BUSY_S
        for turn in range(1 << 30):
            try:
                db.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as fault:
                if not is_busy(fault) or time.monotonic() > patience:
                    raise
            time.sleep(_NAP_S[min(turn, len(_NAP_S) - 1)])
        self._look(db)
        return Transaction(
            db,
            self._dialect,
            self._knowledge,
            self._packer,
            now=self._clock(),
            make_id=self._make_id,
            max_attempts=self._max_attempts,
            stamp=self._stamps.next(),
        )

    def _look(self, db: sqlite3.Connection) -> None:
        """What others did since the last commit."""
        version = db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            self._knowledge.shrink()
            return
        calls, events, floor, removals = db.execute(
            "SELECT (SELECT max(id) FROM calls), (SELECT max(id) FROM events), number, removals FROM store"
        ).fetchone()
        number = max(calls or 0, events or 0, floor)
        if number < self._highest:
            raise restored(str(self._place.path), self._highest, number)
        self._others_wrote = number > self._highest
        self._knowledge.others_wrote(number, removals)
        self._data_version = version
        if not self._settled:
            self._stamps.heal()
            self._settled = True

    def _end(self, transaction: Transaction) -> None:
        if transaction.removed:
            transaction.execute("UPDATE store SET number = ?, removals = removals + 1", (transaction.knowledge.number,))
            self._data_version = None
        slots = transaction.slots.union(map(self._stamps.slot, transaction.touched))
        self._stamps.begin(slots, transaction.stamp or 0)
        transaction.execute("COMMIT")
        self._place.check(self._identity)
        self._stamps.end(slots, transaction.stamp or 0)
        self._highest = transaction.knowledge.number or 0

    def _adopt(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._stamps.open()
        self._settled = False
        self._identity = self._place.identity()

    def _let_go(self) -> None:
        """Undo what is open and close; the next commit opens the file again."""
        self._knowledge.forget()
        self._data_version = None
        self._place.doubt()
        self._stamps.close()
        if self._db is None:
            return
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            # If the log is no longer under its name, what it holds is saved now or never.
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        with suppress(sqlite3.Error):
            self._db.close()
        self._db = None


def _is_fault(raised: BaseException) -> bool:
    return isinstance(raised, sqlite3.Error) and not isinstance(raised, sqlite3.IntegrityError)
