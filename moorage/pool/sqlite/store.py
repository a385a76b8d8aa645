"""The store in one SQLite file."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from moorage.pool.faults import StoreFault
from moorage.pool.sql.store import SqlStore
from moorage.pool.sqlite.freeing import free_pages
from moorage.pool.sqlite.place import Place
from moorage.pool.sqlite.readers import Readers
from moorage.pool.sqlite.stamps import Stamps
from moorage.pool.sqlite.writer import Writer

__all__ = ["SqliteStore"]


class SqliteStore(SqlStore):
    """`moorage.pool.contract.Store`; several processes may have the file open."""

    def __init__(
        self,
        path: Path,
        *,
        max_attempts: int = 5,
        clock: Callable[[], float] = time.time,
        make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """`max_attempts`: deliveries without an ack after which a group is dropped. `clock` gives Unix seconds."""
        self._place = Place(path)
        self._stamps = Stamps(self._place.stamps)
        self._writer = Writer(self._place, self._stamps, clock=clock, make_id=make_id, max_attempts=max_attempts)
        super().__init__(self._writer, Readers(self._place), clock=clock, free_pages=free_pages)

    async def open(self) -> None:
        await asyncio.to_thread(self._writer.open)
        try:
            await super().open()
        except StoreFault as fault:
            raise self._place.unusable(fault.__cause__) from fault

    async def stamp(self, uid: str) -> int:
        return self._stamps.read(uid)
