"""What is written next: whatever was asked while the last commit ran goes into the next one.

Nobody is answered before the commit that holds their write is durable. A lone write goes to the writing thread at once,
and so does what was asked while it was committed. A commit costs as much as several calls, so writes that come in
company wait for more of it: the next commit begins a few milliseconds after the last one did.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from moorage.capture.call import Draft
from moorage.errors import MoorageError
from moorage.pool.faults import StoreFault
from moorage.pool.meter import StoreMeter
from moorage.pool.sql.appending import append, encode, look_up
from moorage.pool.sql.transaction import Transaction

__all__ = ["Asked", "Committed", "Committer", "Operation", "Settled", "Writing", "perform"]

Operation = Callable[[Transaction], Any]

_COMPANY = 2
_GATHER_S = 0.003
"""From one commit's beginning to the next one's, when it held so many writes."""
_LOOK_S = 0.2
"""Between two looks what became of a commit that is in doubt."""


class Committed(NamedTuple):
    """What a commit changed, for those who wait."""

    group_changed: bool
    looked_ahead: bool
    """Whether `deadline` was found out anew."""
    deadline: float | None
    """When the next lease runs out or the next delay ends, of all processes' leases."""
    number: int
    """The latest event there is."""
    others_wrote: bool
    """Whether other processes have committed since this one's last commit."""


class Append(NamedTuple):
    """The choices of one model call; drafts and their records."""

    uid: str
    drafts: Sequence[Draft]
    records: Sequence[bytes]
    blobs: Mapping[bytes, bytes]


class Asked(NamedTuple):
    """A write, and who waits for it."""

    work: Append | Operation
    answer: asyncio.Future[Any]


class Settled(NamedTuple):
    """What became of a batch: what each gets, and what changed (None: nothing, all have failed)."""

    batch: list[Asked]
    outcomes: list[Any]
    committed: Committed | None


class Committer(Protocol):
    """Commits batches, in a thread of its own."""

    @property
    def doubtful(self) -> bool:
        """Whether a batch waits because nobody knows yet whether it was committed."""

    def commit(self, batch: list[Asked]) -> list[Settled]:
        """Those that are settled now: this one, or none, or an earlier one that was in doubt too. Never raises."""

    def settle(self) -> list[Settled]:
        """Look again what became of the one in doubt."""

    def close(self) -> list[Settled]:
        """Let go; what is in doubt still is answered so."""


class Writing:
    """The writes of one event loop."""

    def __init__(self, committer: Committer, committed: Callable[[Committed], None]) -> None:
        """`committed` is called on the event loop after each commit."""
        self.meter = StoreMeter(lambda: len(self._asked) + self._under_way)
        self._committer = committer
        self._committed = committed
        self._asked: list[Asked] = []
        """Not handed over yet; the event loop's alone."""
        self._under_way = 0
        """How many were handed over and are not answered."""
        self._committing = False
        """A batch was handed over, and it is not time for the next one."""
        self._began_at = 0.0
        """When it was handed over, of the loop's clock."""
        self._batches: queue.SimpleQueue[list[Asked] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take operations, of the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="moorage-store", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish what was asked, then close."""
        thread, self._thread = self._thread, None
        if thread is None:
            self._committer.close()
            return
        if self._asked:
            self._hand_over()
        self._batches.put(None)
        await asyncio.to_thread(thread.join)

    def append(self, uid: str, drafts: Sequence[Draft], blobs: Mapping[bytes, bytes]) -> asyncio.Future[Any]:
        """As `run`. Raises UsageError."""
        records = [encode(draft) for draft in drafts]
        return self._ask(Append(uid, drafts, records, blobs))

    def run(self, operation: Operation) -> asyncio.Future[Any]:
        """Its result, once it is durable. What it raises undoes it, and nothing else of the commit."""
        return self._ask(operation)

    def _ask(self, work: Append | Operation) -> asyncio.Future[Any]:
        if self._thread is None:
            raise StoreFault("the store is closed")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.append(Asked(work, answer))
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
        self._under_way += len(batch)
        self._batches.put(batch)

    def _run(self) -> None:
        """The thread."""
        while True:
            try:
                batch = self._batches.get(timeout=_LOOK_S if self._committer.doubtful else None)
            except queue.Empty:
                self._tell(self._committer.settle(), many=None)
                continue
            if batch is None:
                self._tell(self._committer.close(), many=None)
                return
            # All were asked at once, so any order will do: calls first are gathered into few statements.
            batch.sort(key=lambda asked: not isinstance(asked.work, Append))
            self._tell(self._committer.commit(batch), many=len(batch))

    def _tell(self, settled: list[Settled], *, many: int | None) -> None:
        """`many`: the event loop's batch was so big, and the next one may come. None: this was not asked by it."""
        with suppress(RuntimeError):  # the loop was closed first: nobody waits any more
            self._loop.call_soon_threadsafe(self._deliver, settled, many)

    def _deliver(self, settled: list[Settled], many: int | None) -> None:
        began_at = self._began_at
        if many is not None and many < _COMPANY:
            self._next()  # first: the disk works while the answers are given
        elif many is not None:
            self._loop.call_at(began_at + _GATHER_S, self._next)
        for one in settled:
            self._under_way -= len(one.batch)
            _answer(one)
            if one.committed is None:
                self.meter.failed(len(one.batch))
                continue
            self.meter.committed(len(one.batch), self._loop.time() - began_at)
            self._committed(one.committed)


def perform(transaction: Transaction, batch: Sequence[Asked], is_fault: Callable[[BaseException], bool]) -> list[Any]:
    """What each gets: its result, or what refused it and undid it. Raises faults of the database: all is undone."""
    calls = [asked.work.uid for asked in batch if isinstance(asked.work, Append)]
    if calls:
        look_up(transaction, calls)
    outcomes = [_perform(transaction, asked.work, is_fault) for asked in batch]
    transaction.flush()
    transaction.tallies.write(transaction.db)
    return outcomes


def _perform(transaction: Transaction, work: Append | Operation, is_fault: Callable[[BaseException], bool]) -> Any:
    if isinstance(work, Append):
        try:
            return append(transaction, *work)
        except MoorageError as refused:
            return refused
    transaction.flush()
    transaction.tallies.keep()
    transaction.execute("SAVEPOINT one")
    try:
        result = work(transaction)
        transaction.flush()
    except Exception as refused:
        if is_fault(refused):
            raise
        transaction.drop_gathered()
        transaction.tallies.drop()
        transaction.execute("ROLLBACK TO SAVEPOINT one")
        transaction.knowledge.doubt()
        result = refused
    transaction.execute("RELEASE SAVEPOINT one")
    return result


def _answer(settled: Settled) -> None:
    for asked, outcome in zip(settled.batch, settled.outcomes, strict=True):
        if asked.answer.done():  # whoever asked went away
            continue
        if isinstance(outcome, BaseException):
            asked.answer.set_exception(outcome)
        else:
            asked.answer.set_result(outcome)
