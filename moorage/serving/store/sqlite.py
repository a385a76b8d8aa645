"""A file of SQLite: how it is made and opened, and whether it is still the one that was opened.

SQLite goes on writing into a file that was deleted or moved away, and what is acknowledged then is lost. So what stands
behind the path is looked at whenever a connection is taken, and again after a commit.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from moorage.errors import PreflightError
from moorage.serving.store.database import Database
from moorage.serving.store.schema import HEAD, VERSION_TABLE

__all__ = ["SqliteFile"]

_BUSY = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED."""
_DAMAGED = (11, 26)
"""SQLITE_CORRUPT and SQLITE_NOTADB."""
_CONNECTIONS = 8
_SCHEMA = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a name of ours

Identity = tuple[tuple[int, int], ...]


class SqliteFile:
    """One file in WAL mode, synced at every commit, for its owner only."""

    def __init__(self, path: Path, patience_s: float) -> None:
        self.path = Path(os.path.realpath(path))  # SQLite puts its log beside the file, not beside a link to it
        self.shown = str(self.path)
        self._files = tuple(f"{self.path}{end}" for end in ("", "-wal", "-shm"))
        self._patience_s = patience_s
        self._opened = False

    def open(self) -> Engine:
        """Make the file when there is none, and an engine whose transactions are alone. Raises PreflightError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # its log and the log's index get the same mode
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            if not os.access(self.path, os.W_OK):  # SQLite would open it all the same, and only read
                raise PermissionError("it may only be read")
            engine = self._engine()
            with engine.connect() as db:
                _enter_wal(db, self._patience_s)
            engine.dispose()  # it did not know of the log when it was opened
            return engine.execution_options(alone=True)
        except (OSError, DBAPIError) as fault:
            raise self.unusable(fault) from fault

    def database(self, engine: Engine) -> Database:
        """For an engine of `open` whose schema is the newest."""
        self._opened = True
        return Database(
            engine.execution_options(alone=False),
            engine,
            self.shown,
            patience_s=self._patience_s * 1.5,
            check=self._still_there,
        )

    def unusable(self, cause: BaseException) -> PreflightError:
        """What a user is told of a file that cannot be opened."""
        origin = cause.orig if isinstance(cause, DBAPIError) else cause
        if getattr(origin, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            return PreflightError(
                f"{self.shown} is damaged or no SQLite file: {origin}",
                code="store_corrupt",
                hint="keep a copy of it, and name another file with --db",
            )
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            return PreflightError(
                f"{self.shown} cannot be written: {origin}",
                code="store_read_only",
                hint="give write permission on it and on its folder, or name another file with --db",
            )
        return PreflightError(
            f"the store {self.shown} cannot be opened: {origin}",
            code="store_unusable",
            hint="name a file in a folder that can be written with --db",
        )

    def _engine(self) -> Engine:
        engine = create_engine(
            "sqlite://",
            poolclass=QueuePool,
            pool_size=_CONNECTIONS,
            max_overflow=-1,
            pool_use_lifo=True,
            hide_parameters=True,
        )
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "checkout", self._check)
        return engine

    def _connect(self, dialect: Any, record: Any, _arguments: Any, _words: Any) -> Any:
        # A file that is gone is not made anew: an empty store would be worse than none.
        db = dialect.loaded_dbapi.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=self._patience_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in ("synchronous = FULL", "cache_size = -8000", "journal_size_limit = 67108864"):
                db.execute(f"PRAGMA {pragma}")
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # so that its log and the index are there
            if self._opened and db.execute(_SCHEMA).fetchone() != (HEAD,):
                raise OSError("another file was put in its place, with another schema: start anew to have it migrated")
            record.info["identity"] = self._identity()
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, _db: Any, record: Any, _proxy: Any) -> None:
        if record.info.get("identity") != self._identity():
            # Not opened anew at once: first all that have the old one open must let go of it, or logs get mixed up.
            raise OSError("the file was moved, deleted or replaced")

    def _still_there(self, db: Connection) -> None:
        if db.info.get("identity") != self._identity():
            raise OSError("the file was moved, deleted or replaced")

    def _identity(self) -> Identity:
        """What stands behind the path now: the file, its log and the log's index; less what is not there."""
        found = []
        for file in self._files:
            with suppress(FileNotFoundError):
                state = os.stat(file)  # noqa: PTH116 - at every transaction, and a tenth of what a Path costs
                found.append((state.st_dev, state.st_ino))
        return tuple(found)


def _begin(db: Connection) -> None:
    # Who means to write locks at once: two readers that both go on to write would be in each other's way.
    db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get("alone") else "BEGIN")


def _enter_wal(db: Connection, patience_s: float) -> None:
    """Two processes that open a new file at once both switch it; SQLite does not wait for that by itself."""
    raw = db.connection.driver_connection
    assert raw is not None
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if raw.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise OSError("the file system has no shared memory for its log")
            return
        except OSError:
            raise
        except Exception as fault:
            if getattr(fault, "sqlite_errorcode", 0) & 0xFF not in _BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
