"""Connections that only read, each used by one thread at a time."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import zstandard

from moorage.errors import MoorageError
from moorage.pool.postgres.pipe import Lost, Pipe, Refused
from moorage.pool.postgres.place import Place
from moorage.pool.sql.connection import Connection

__all__ = ["Readers"]

Result = TypeVar("Result")


class Readers:
    """`moorage.pool.sql.store.Reads`. They ask the server that is written: what was answered is seen."""

    def __init__(
        self, place: Place, threads: int = 2, *, unreadable: Callable[[BaseException], MoorageError] | None = None
    ) -> None:
        """`unreadable`: what is told of a row that cannot be unpacked; None: that the store cannot be used."""
        self._place = place
        self._unreadable = unreadable or place.fault
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="moorage-reads")
        self._idle: queue.SimpleQueue[Pipe] = queue.SimpleQueue()

    async def run(self, read: Callable[[Connection], Result]) -> Result:
        """Raises StoreFault when the database cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, read)

    def close(self) -> None:
        self._executor.shutdown(wait=True)
        self._drop_idle()

    def _read(self, read: Callable[[Connection], Result]) -> Result:
        try:
            try:
                return self._on(self._idle.get_nowait(), read)
            except queue.Empty:
                pass
            except Lost:
                # It lay idle, and so did the others: the server may have been restarted since.
                self._drop_idle()
            return self._on(self._place.connect(), read)
        except (Lost, Refused) as fault:
            raise self._place.fault(fault) from fault
        except (msgspec.DecodeError, UnicodeDecodeError, zstandard.ZstdError) as fault:
            raise self._unreadable(fault) from fault

    def _on(self, pipe: Pipe, read: Callable[[Connection], Result]) -> Result:
        try:
            # One snapshot, so that several statements see one state. Neither end of it is waited for.
            pipe.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            result = read(pipe)
            pipe.execute("COMMIT")
            pipe.push()
        except BaseException:
            pipe.close()
            raise
        self._idle.put(pipe)
        return result

    def _drop_idle(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return
