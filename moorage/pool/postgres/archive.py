"""`moorage.pool.archive.Archive` over a PostgreSQL database; a standby will do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from moorage.errors import FailedError, MoorageError, NotFoundError
from moorage.pool.postgres.pipe import Lost, Refused
from moorage.pool.postgres.place import Place
from moorage.pool.postgres.readers import Readers
from moorage.pool.postgres.schema import applied
from moorage.pool.sql.archive import SqlArchive

__all__ = ["PostgresArchive"]


class PostgresArchive(SqlArchive):
    """Nothing is written, and no schema is made where there is none."""

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ) -> None:
        """Raises UsageError for the URL."""
        self._place = Place(url, environ, read_only=True)
        self._readers = Readers(self._place, unreadable=self._unreadable)
        super().__init__(self._readers)

    async def open(self) -> None:
        await asyncio.to_thread(self._look)

    async def close(self) -> None:
        await asyncio.to_thread(self._readers.close)

    def _look(self) -> None:
        try:
            pipe = self._place.connect()
            try:
                found = applied(pipe, self._place.schema, self._place.shown)
            finally:
                pipe.close()
        except (Lost, Refused) as fault:
            raise self._place.unusable(fault) from fault
        if not found:
            raise NotFoundError(
                f"there is no store in the schema {self._place.schema!r} of {self._place.shown}",
                code="store_missing",
                hint="--db names the database that moor gateway writes; nothing is made here",
            )

    def _unreadable(self, cause: BaseException) -> MoorageError:
        return FailedError(
            f"{self._place.shown} holds what cannot be read: {cause}",
            code="record_broken",
            hint="moor trace verify names the call",
            next=["moor trace verify --all --db URL"],
        )
