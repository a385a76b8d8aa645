"""The store in a PostgreSQL database."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Mapping

from moorage.pool.faults import StoreFault
from moorage.pool.postgres.place import Place
from moorage.pool.postgres.readers import Readers
from moorage.pool.postgres.stamping import Stamping
from moorage.pool.postgres.writer import Writer
from moorage.pool.sql.store import SqlStore

__all__ = ["PostgresStore"]


class PostgresStore(SqlStore):
    """`moorage.pool.contract.Store`; any number of processes and machines may have it open."""

    def __init__(
        self,
        url: str,
        *,
        max_attempts: int = 5,
        clock: Callable[[], float] = time.time,
        make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`url`: `postgresql://…` as libpq has it; what it does not say, libpq takes from PGPASSWORD, PGPASSFILE ….

        `max_attempts`: deliveries without an ack after which a group is dropped. Raises UsageError for the URL.
        """
        place = Place(url, environ)
        self._place = place
        self._writer = Writer(place, clock=clock, make_id=make_id, max_attempts=max_attempts, name=uuid.uuid4().hex)
        # Stamps are asked for by every request: they do not wait for pages and leases.
        self._stamp_readers = Readers(place, threads=1)
        self._stamping = Stamping(self._stamp_readers)
        super().__init__(self._writer, Readers(place), clock=clock)

    async def open(self) -> None:
        await asyncio.to_thread(self._writer.open)
        try:
            await super().open()
        except StoreFault as fault:
            raise self._place.unusable(fault) from fault

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._stamp_readers.close)

    async def stamp(self, uid: str) -> int:
        return await self._stamping.stamp(uid)
