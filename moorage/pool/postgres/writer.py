"""Commits batches of writes to the database: one transaction each, two round trips where nothing has to be looked up.

Whoever writes holds the lock of the row `store`, so writers of all machines come one after another, and none can meet
another in a deadlock. A commit whose answer did not come is in doubt: its batch is answered when the database has said
what became of it, and nothing else is written before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from moorage.errors import MoorageError
from moorage.pool.faults import StoreFault, restored
from moorage.pool.postgres.pipe import Lost, Pipe, Refused
from moorage.pool.postgres.place import Place
from moorage.pool.postgres.schema import migrate
from moorage.pool.sql.appending import ask_heads, learn_heads
from moorage.pool.sql.connection import Connection, Rows
from moorage.pool.sql.leasing import next_deadline
from moorage.pool.sql.records import Packer
from moorage.pool.sql.transaction import Knowledge, Transaction
from moorage.pool.sql.writing import Append, Asked, Committed, Settled, perform

__all__ = ["PostgresDialect", "Writer"]

_LOCK = "SELECT number, removals, commits FROM store FOR UPDATE"
_MINE = "SELECT batch FROM writers WHERE writer = ?"
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ? AND CAST(backend_start AS TEXT) = ?"
_SERVER_NOW = "CAST(extract(epoch FROM now()) AS DOUBLE PRECISION)"
_REMEMBER = f"UPDATE writers SET batch = ?, since = {_SERVER_NOW} WHERE writer = ?"  # noqa: S608
_OLD_S = 366 * 86400.0
"""What a process wrote last is forgotten after so long."""
_DATA_FAULTS = ("22", "23", "42804", "54")
"""What the server says of a value that it does not take: its batch's other writes are none the worse for it."""


class PostgresDialect:
    """`moorage.pool.sql.connection.Dialect`."""

    def add(self, db: Connection, statement: str, values: Sequence[Any]) -> int:
        return int(db.execute(f"{statement} RETURNING id", values).fetchone()[0])

    def add_rows(self, db: Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """One by one: they go out together, and cost less here than as arrays or by COPY."""
        known = " ON CONFLICT DO NOTHING" if table == "blobs" else ""
        statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))}){known}"  # noqa: S608
        for row in rows:
            db.execute(statement, row)


class _Doubt:
    """A batch whose COMMIT was sent, and what its members get if it was committed."""

    def __init__(self, batch: list[Asked], outcomes: list[Any], changed: Committed, number: int, commits: int) -> None:
        self.batch = batch
        self.outcomes = outcomes
        self.changed = changed
        self.number = number
        self.commits = commits


class Writer:
    """`moorage.pool.sql.writing.Committer` of one process."""

    def __init__(
        self, place: Place, *, clock: Callable[[], float], make_id: Callable[[], str], max_attempts: int, name: str
    ) -> None:
        """`name`: no other process, now or ever, has it."""
        self._place = place
        self._clock = clock
        self._make_id = make_id
        self._max_attempts = max_attempts
        self._name = name
        self._knowledge = Knowledge()
        self._dialect = PostgresDialect()
        self._packer = Packer(in_pieces=False)
        self._pipe: Pipe | None = None
        self._batch = 0
        """The last one that was committed."""
        self._commits: int | None = None
        """Of all processes, as of the last commit here."""
        self._highest = 0
        """The latest number that was ever seen here: a database that ends before it was set back."""
        self._others_wrote = False
        self._doubt: _Doubt | None = None
        self._left: tuple[int, str] | None = None
        """The session that was given up last: it may still hold the lock, and nobody hears of it any more."""

    def open(self) -> None:
        """Raises PreflightError. Blocks: for another thread than the event loop's."""
        try:
            self._pipe = self._place.connect()
            migrate(self._pipe, self._clock(), self._place.schema, self._place.shown)
            self._pipe.execute(f"DELETE FROM writers WHERE since < {_SERVER_NOW} - ?", (_OLD_S,))  # noqa: S608
            self._pipe.execute(f"INSERT INTO writers VALUES (?, 0, {_SERVER_NOW})", (self._name,))  # noqa: S608
            self._pipe.finish()
        except (Lost, Refused) as fault:
            self._let_go()
            raise self._place.unusable(fault) from fault
        except BaseException:
            self._let_go()
            raise

    @property
    def doubtful(self) -> bool:
        return self._doubt is not None

    def commit(self, batch: list[Asked]) -> list[Settled]:
        settled = self.settle()
        if self._doubt is not None:
            fault = StoreFault(
                f"the store {self._place.shown} is away in the middle of a commit",
                hint="nothing of this write was kept; it goes on when the database is back",
            )
            return [*settled, self._failed(batch, fault)]
        try:
            return [*settled, *self._commit(batch)]
        except Refused as fault:
            self._let_go()
            if len(batch) > 1 and fault.sqlstate.startswith(_DATA_FAULTS):
                return [*settled, *(one for asked in batch for one in self.commit([asked]))]
            return [*settled, self._failed(batch, fault)]
        except (Lost, MoorageError) as fault:
            self._let_go()
            return settled if self._doubt is not None else [*settled, self._failed(batch, fault)]
        except Exception as fault:  # a fault of ours must not leave anybody waiting
            self._let_go()
            return [*settled, Settled(batch, [fault for _ in batch], None)]

    def settle(self) -> list[Settled]:
        doubt = self._doubt
        if doubt is None:
            return []
        try:
            batch = self._look_back()
        except Exception:  # whatever it is, nobody knows yet
            self._let_go()
            return []
        self._doubt = None
        if batch == self._batch + 1:
            self._keep(doubt.number, -1)
            return [Settled(doubt.batch, doubt.outcomes, doubt.changed)]
        self._let_go()
        return [self._failed(doubt.batch, StoreFault("the connection to the database broke off before the commit"))]

    def close(self) -> list[Settled]:
        settled = self.settle()
        doubt, self._doubt = self._doubt, None
        self._let_go()
        if doubt is None:
            return settled
        fault = StoreFault(
            "the gateway ends before the database said whether this was stored",
            code="store_outcome_unknown",
            hint="look into the store when it is back",
        )
        return [*settled, self._failed(doubt.batch, fault)]

    def _commit(self, batch: list[Asked]) -> list[Settled]:
        transaction = self._begin(batch)
        outcomes = perform(transaction, batch, _is_fault)
        looked_ahead = transaction.look_ahead
        deadline = next_deadline(transaction) if looked_ahead else None
        number = transaction.knowledge.number or 0
        changed = Committed(transaction.group_changed, looked_ahead, deadline, number, self._others_wrote)
        self._end(transaction, _Doubt(batch, outcomes, changed, number, (self._commits or 0) + 1))
        return [Settled(batch, outcomes, changed)]

    def _begin(self, batch: list[Asked]) -> Transaction:
        """Raises Lost, Refused, StoreFault."""
        uids = [asked.work.uid for asked in batch if isinstance(asked.work, Append)]
        for fresh in (self._pipe is None, True):
            try:
                pipe = self._connected()
                pipe.execute("BEGIN")
                lock, mine = pipe.execute(_LOCK), pipe.execute(_MINE, (self._name,))
                heads = ask_heads(pipe, uids if self._others_wrote else self._unknown(uids))
                self._look(lock, mine)
                break
            except (Lost, Refused):
                # One that lay idle may have been cut off long ago: nothing was asked of it yet.
                self._let_go()
                if fresh:
                    raise
        transaction = Transaction(
            pipe,
            self._dialect,
            self._knowledge,
            self._packer,
            now=self._clock(),
            make_id=self._make_id,
            max_attempts=self._max_attempts,
            stamp=None,
        )
        learn_heads(transaction, heads)
        return transaction

    def _look(self, lock: Rows, mine: Rows) -> None:
        """What others did since the last commit. The lock is ours from here on."""
        number, removals, commits = lock.fetchone() or (0, 0, 0)
        row = mine.fetchone()
        if number < self._highest or row is None or row[0] != self._batch:
            raise restored(self._place.shown, self._highest, number)
        self._others_wrote = commits != self._commits and self._commits is not None
        if commits != self._commits:
            self._knowledge.others_wrote(number, removals)
            self._commits = commits
        else:
            self._knowledge.shrink()

    def _end(self, transaction: Transaction, doubt: _Doubt) -> None:
        assert self._pipe is not None
        self._pipe.execute(
            "UPDATE store SET number = ?, commits = ?, removals = removals + ?, shared = shared + ?",
            (doubt.number, doubt.commits, int(transaction.removed), int("" in transaction.touched)),
        )
        self._pipe.execute(_REMEMBER, (self._batch + 1, self._name))
        done = self._pipe.execute("COMMIT")
        try:
            self._pipe.wait(done)
        except Lost:
            self._doubt = doubt
            raise
        self._keep(doubt.number, doubt.commits)
        if transaction.removed:
            self._commits = -1

    def _keep(self, number: int, commits: int) -> None:
        self._batch += 1
        self._highest = number
        self._commits = commits

    def _look_back(self) -> int:
        """The batch that this process committed last. The lock is waited for: who has it may be our own old session."""
        pipe = self._connected()
        pipe.execute("BEGIN")
        lock = pipe.execute(_LOCK)
        row = pipe.execute(_MINE, (self._name,)).fetchone()
        number = (lock.fetchone() or (0,))[0]
        pipe.execute("COMMIT").fetchall()
        if row is None or number < self._highest:
            return -1  # another database, or an older one: what was in doubt is not in it
        return int(row[0])

    def _connected(self) -> Pipe:
        if self._pipe is None:
            self._pipe = self._place.connect()
            if self._left is not None:
                self._pipe.execute(_END, self._left)
                self._pipe.finish()
        return self._pipe

    def _unknown(self, uids: Sequence[str]) -> list[str]:
        return [uid for uid in uids if self._knowledge.head(uid) is None]

    def _failed(self, batch: list[Asked], cause: BaseException) -> Settled:
        """One for each who asked: an exception is raised once."""
        faults = []
        for _ in batch:
            fault = self._place.fault(cause)
            fault.__cause__ = cause
            faults.append(fault)
        return Settled(batch, faults, None)

    def _let_go(self) -> None:
        """The next commit connects again."""
        self._knowledge.forget()
        self._commits = None if self._commits is None else -1
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._left = pipe.session
            pipe.close()


def _is_fault(raised: BaseException) -> bool:
    return isinstance(raised, (Lost, Refused))
