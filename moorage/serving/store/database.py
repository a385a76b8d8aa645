"""One database: its connections, its transactions, and what users are told when it cannot be used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from moorage.errors import FailedError
from moorage.serving.store.passing import may_pass
from moorage.serving.store.schema import STORE

__all__ = ["Database", "Writing"]

RETRY_AFTER_S = 5
_COUNTERS = select(STORE.c.version, STORE.c.event).where(STORE.c.id == 1)


@dataclass(slots=True)
class Writing:
    """A transaction that nobody else's overlaps, in this process or another one."""

    db: Connection
    version: int
    """What the change gets: one more than all that others can see."""
    event: int
    """The number of the last event."""
    changed: bool = False
    """Set by whoever wrote something that `version` tells of."""

    def next_event(self) -> int:
        self.event += 1
        return self.event


class Database:
    """Made by `opening`; may be used from any thread.

    `reads` begins transactions that see one moment, `writes` such that are alone once they locked the counters.
    `check` is called after a commit and raises OSError when that went into something that is not there any more.
    """

    def __init__(
        self, reads: Engine, writes: Engine, shown: str, *, patience_s: float, check: Callable[[Connection], None]
    ) -> None:
        self._reads = reads
        self._writes = writes
        self._shown = shown
        self._patience_s = patience_s
        self._check = check
        # Threads wait for each other here, in turn: what a database does when it is locked is slow and not fair.
        self._turn = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """All that is read in it is of one moment. Raises FailedError `store_failed`."""
        with self._faults(), self._reads.begin() as db:
            yield db

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """All or nothing of it is kept, and when it is left, it is kept for good. Raises FailedError `store_failed`."""
        if not self._turn.acquire(timeout=self._patience_s):
            raise self._failed(f"other changes took more than {self._patience_s:g} s", may_pass=True)
        try:
            with self._faults(), self._writes.connect() as db:
                with db.begin():
                    version, event = db.execute(_COUNTERS.with_for_update()).one()
                    writing = Writing(db, version + 1, event)
                    yield writing
                    if writing.changed or writing.event != event:
                        counters = {"version": writing.version, "event": writing.event}
                        db.execute(update(STORE).where(STORE.c.id == 1).values(counters))
                self._check(db)
        finally:
            self._turn.release()

    def close(self) -> None:
        self._reads.dispose()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as fault:
            # What is open may be of a file or a server that is gone: the next transaction opens anew.
            self._reads.dispose()
            # The exception's own text holds the statement.
            raise self._failed(" ".join(str(fault.orig).split()), may_pass=may_pass(fault)) from fault
        except SQLAlchemyError as fault:
            raise self._failed(" ".join(str(fault).split()), may_pass=isinstance(fault, PoolTimeout)) from fault
        except OSError as fault:
            self._reads.dispose()
            raise self._failed(str(fault), may_pass=False) from fault

    def _failed(self, why: str, *, may_pass: bool) -> FailedError:
        return FailedError(
            f"the store {self._shown} cannot be used: {why}",
            code="store_failed",
            hint="look at the disk's space and the database; whether a change was kept shows when it answers again",
            data={"retry_after_s": RETRY_AFTER_S} if may_pass else None,
        )
