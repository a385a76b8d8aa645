"""Connections that only read, each used by one thread at a time."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import zstandard

from moorage.pool.sqlite.place import Identity, Place

__all__ = ["Readers"]

Result = TypeVar("Result")


class Readers:
    """Runs reads away from the event loop. A read sees everything that was answered before it was asked."""

    def __init__(self, place: Place, threads: int = 2) -> None:
        self._place = place
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="moorage-reads")
        self._idle: queue.SimpleQueue[tuple[Identity, sqlite3.Connection]] = queue.SimpleQueue()

    async def run(self, read: Callable[[sqlite3.Connection], Result]) -> Result:
        """Raises StoreFault when the file cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, read)

    def close(self) -> None:
        self._executor.shutdown(wait=True)
        while not self._idle.empty():
            self._idle.get()[1].close()

    def _read(self, read: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            identity, db = self._borrow()
            try:
                # One transaction, so that several statements see one state.
                db.execute("BEGIN")
                result = read(db)
                db.execute("COMMIT")
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, OSError, msgspec.DecodeError, zstandard.ZstdError) as fault:
            raise self._place.fault(fault) from fault
        self._idle.put((identity, db))
        return result

    def _borrow(self) -> tuple[Identity, sqlite3.Connection]:
        now = self._place.seen()
        while True:
            try:
                identity, db = self._idle.get_nowait()
            except queue.Empty:
                return now, self._place.reader()
            if identity == now:
                return identity, db
            db.close()
