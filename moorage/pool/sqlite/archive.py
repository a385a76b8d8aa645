"""`moorage.pool.archive.Archive` over one SQLite file, opened by SQLite itself for reading only."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import zstandard

from moorage.errors import FailedError, MoorageError, NotFoundError, PreflightError
from moorage.pool.faults import StoreFault
from moorage.pool.sql.archive import SqlArchive
from moorage.pool.sql.connection import Connection
from moorage.pool.sqlite.schema import MIGRATIONS

__all__ = ["SqliteArchive"]

_BUSY_S = 10.0

Result = TypeVar("Result")


class SqliteArchive(SqlArchive):
    """The file is never written, and not made when it is missing."""

    def __init__(self, path: Path) -> None:
        self._file = _File(Path(os.path.realpath(path)))
        super().__init__(self._file)

    async def open(self) -> None:
        await asyncio.to_thread(self._file.open)

    async def close(self) -> None:
        await asyncio.to_thread(self._file.close)


class _File:
    """One connection, one thread, one short transaction a read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="moorage-archive")
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Raises NotFoundError, PreflightError."""
        if not self._path.is_file():
            raise NotFoundError(
                f"there is no store {self._path}",
                code="store_missing",
                hint="--db names the file that moor gateway writes; nothing is made here",
            )
        try:
            self._db = self._connect()
            applied = _applied(self._db)
        except sqlite3.Error as fault:
            raise self._fault(fault) from fault
        if applied is None:
            raise PreflightError(
                f"{self._path} is no store of Moorage", code="store_foreign", hint="name another file with --db"
            )
        if applied > len(MIGRATIONS):
            raise PreflightError(
                f"{self._path} was written by a newer Moorage (schema {applied}; this one knows {len(MIGRATIONS)})",
                code="store_newer",
                hint="run the newer version, or name another file with --db",
            )

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        if self._db is not None:
            self._db.close()
            self._db = None

    async def run(self, read: Callable[[Connection], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, read)

    def _read(self, read: Callable[[Connection], Result]) -> Result:
        assert self._db is not None, "it is opened before it is read"
        try:
            self._db.execute("BEGIN")
            try:
                return read(self._db)
            finally:
                self._db.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as fault:
            raise self._fault(fault) from fault
        except (msgspec.DecodeError, UnicodeDecodeError, zstandard.ZstdError) as fault:
            raise FailedError(
                f"{self._path} holds what cannot be read: {fault}",
                code="record_broken",
                hint="moor trace verify names the call",
                next=[f"moor trace verify --all --db sqlite:///{self._path}"],
            ) from fault

    def _connect(self) -> sqlite3.Connection:
        """Where the log cannot be made, since the folder is not to be written, a store at rest is read as it lies."""
        try:
            return self._connected("mode=ro")
        except sqlite3.OperationalError:
            if Path(f"{self._path}-wal").exists():
                raise
            return self._connected("mode=ro&immutable=1")

    def _connected(self, how: str) -> sqlite3.Connection:
        db = sqlite3.connect(
            f"{self._path.as_uri()}?{how}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,  # opened and closed while its thread has nothing to do
        )
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def _fault(self, cause: BaseException) -> MoorageError:
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return PreflightError(
                f"{self._path} is damaged or no SQLite file: {cause}",
                code="store_corrupt",
                hint="keep a copy of it; sqlite3 FILE .recover may save what is readable",
            )
        if isinstance(cause, sqlite3.OperationalError) and "no such" in str(cause):
            return PreflightError(
                f"{self._path} was written by an older Moorage, or its tables are damaged: {cause}",
                code="store_older",
                hint="a gateway that opens it once brings it up to date",
            )
        return StoreFault(f"the store {self._path} cannot be read: {cause}")


def _applied(db: sqlite3.Connection) -> int | None:
    """The schema's version; None: the file is not ours."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "moorage_migrations" not in tables:
        return None
    return int(db.execute("SELECT coalesce(max(version), 0) FROM moorage_migrations").fetchone()[0])
