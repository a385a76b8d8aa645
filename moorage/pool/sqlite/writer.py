"""The one thread that writes: whatever was asked while the last commit ran goes into the next one.

Nobody is answered before the commit that holds their write is on the disk. A lone write goes to the thread at once, and
so does what was asked while it was committed. A commit costs as much as several calls, so writes that come in company
wait for more of it: the next commit begins a few milliseconds after the last one did.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from moorage.capture.call import Draft
from moorage.errors import MoorageError
from moorage.pool.faults import StoreFault
from moorage.pool.sqlite.appending import append, encode
from moorage.pool.sqlite.leasing import next_deadline
from moorage.pool.sqlite.place import BUSY_S, Identity, Place, is_busy
from moorage.pool.sqlite.records import Packer
from moorage.pool.sqlite.transaction import Knowledge, Transaction

__all__ = ["Committed", "Operation", "Writer"]

Operation = Callable[[Transaction], Any]

_COMPANY = 2
_GATHER_S = 0.003
"""From one commit's beginning to the next one's, when it held so many writes."""
_NAP_S = (0.0005, 0.001, 0.002)
"""Between two looks whether another process's transaction is over."""


class Committed(NamedTuple):
    """What a commit changed, for those who wait."""

    group_changed: bool
    looked_ahead: bool
    """Whether `deadline` was found out anew."""
    deadline: float | None
    """When the next lease runs out or the next delay ends, of all processes' leases."""


class _Append(NamedTuple):
    uid: str
    drafts: Sequence[Draft]
    records: Sequence[bytes]
    blobs: Mapping[bytes, bytes]


class _Asked(NamedTuple):
    work: _Append | Operation
    answer: asyncio.Future[Any]


class Writer:
    """Commits operations of one event loop."""

    def __init__(
        self,
        place: Place,
        *,
        clock: Callable[[], float],
        make_id: Callable[[], str],
        max_attempts: int,
        committed: Callable[[Committed], None],
    ) -> None:
        """`committed` is called on the event loop after each commit."""
        self._place = place
        self._clock = clock
        self._make_id = make_id
        self._max_attempts = max_attempts
        self._committed = committed
        self._asked: list[_Asked] = []
        """Not handed over yet; the event loop's alone."""
        self._committing = False
        """A batch was handed over, and it is not time for the next one."""
        self._began_at = 0.0
        """When it was handed over, of the loop's clock."""
        self._batches: queue.SimpleQueue[list[_Asked] | None] = queue.SimpleQueue()
        self._knowledge = Knowledge()
        self._packer = Packer()
        self._db: sqlite3.Connection | None = None
        self._identity: Identity = ()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Open the file. Raises PreflightError. Blocks: for another thread than the event loop's."""
        self._adopt(self._place.create(self._clock()))

    def start(self) -> None:
        """Begin to take operations, of the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="moorage-store", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish what was asked, then close."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if self._asked:
                self._hand_over()
            self._batches.put(None)
            await asyncio.to_thread(thread.join)
        self._let_go()

    def append(self, uid: str, drafts: Sequence[Draft], blobs: Mapping[bytes, bytes]) -> asyncio.Future[Any]:
        """As `run`. Raises UsageError."""
        records = [encode(draft) for draft in drafts]
        return self._ask(_Append(uid, drafts, records, blobs))

    def run(self, operation: Operation) -> asyncio.Future[Any]:
        """Its result, once it is durable. What it raises undoes it, and nothing else of the commit."""
        return self._ask(operation)

    def _ask(self, work: _Append | Operation) -> asyncio.Future[Any]:
        if self._thread is None:
            raise StoreFault("the store is closed")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.append(_Asked(work, answer))
        if not self._committing:
            self._hand_over()
        return answer

    def _next(self) -> None:
        self._committing = False
        if self._asked:
            self._hand_over()

    def _hand_over(self) -> None:
        self._committing = True
        self._began_at = self._loop.time()
        batch, self._asked = self._asked, []
        self._batches.put(batch)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            # All were asked at once, so any order will do: calls first are gathered into few statements.
            batch.sort(key=lambda asked: not isinstance(asked.work, _Append))
            outcomes, committed = self._commit(batch)
            with suppress(RuntimeError):  # the loop was closed first: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver, batch, outcomes, committed)

    def _deliver(self, batch: list[_Asked], outcomes: list[Any], committed: Committed | None) -> None:
        if len(batch) < _COMPANY:
            self._next()  # first: the disk works while the answers are given
        else:
            self._loop.call_at(self._began_at + _GATHER_S, self._next)
        for asked, outcome in zip(batch, outcomes, strict=True):
            if asked.answer.done():  # whoever asked went away
                continue
            if isinstance(outcome, BaseException):
                asked.answer.set_exception(outcome)
            else:
                asked.answer.set_result(outcome)
        if committed is not None:
            self._committed(committed)

    def _commit(self, batch: list[_Asked]) -> tuple[list[Any], Committed | None]:
        """What each gets, and what changed (None: nothing, all have failed)."""
        try:
            if self._db is None:
                self._adopt(self._place.reopen(self._clock()))
            self._place.check(self._identity)
            transaction = self._begin(self._db)
            outcomes = [self._perform(transaction, asked.work) for asked in batch]
            transaction.flush()
            looked_ahead = transaction.look_ahead
            deadline = next_deadline(transaction) if looked_ahead else None
            transaction.execute("COMMIT")
            self._place.check(self._identity)
        except (sqlite3.Error, OSError, StoreFault) as fault:
            self._let_go()
            return [self._fault(fault) for _ in batch], None
        except Exception as fault:  # a fault of ours must not leave anybody waiting
            self._let_go()
            return [fault for _ in batch], None
        return outcomes, Committed(transaction.group_changed, looked_ahead, deadline)

    def _fault(self, cause: sqlite3.Error | OSError | StoreFault) -> StoreFault:
        """One for each who asked: an exception is raised once."""
        told = cause if isinstance(cause, StoreFault) else self._place.fault(cause)
        fault = StoreFault(told.message, hint=told.hint)
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
        self._knowledge.refresh(db)
        return Transaction(
            db,
            self._knowledge,
            self._packer,
            now=self._clock(),
            make_id=self._make_id,
            max_attempts=self._max_attempts,
        )

    def _perform(self, transaction: Transaction, work: _Append | Operation) -> Any:
        """Its result, or the exception that undid it. Raises sqlite3.Error: then the whole commit is undone."""
        if isinstance(work, _Append):
            try:
                return append(transaction, *work)
            except MoorageError as refused:
                return refused
        transaction.flush()
        transaction.execute("SAVEPOINT one")
        try:
            result = work(transaction)
            transaction.flush()
        except Exception as refused:
            if isinstance(refused, sqlite3.Error) and not isinstance(refused, sqlite3.IntegrityError):
                raise
            transaction.drop_gathered()
            transaction.execute("ROLLBACK TO one")
            transaction.knowledge.doubt()
            result = refused
        transaction.execute("RELEASE one")
        return result

    def _adopt(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._identity = self._place.identity()

    def _let_go(self) -> None:
        """Undo what is open and close; the next commit opens the file again."""
        self._knowledge.forget()
        self._place.doubt()
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
