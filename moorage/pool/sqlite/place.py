"""The file: how connections to it are opened, and whether it is still the one that was opened.

SQLite keeps writing into a file that was deleted or moved away; a commit there would be lost. So the inode behind the
path is looked at around every commit.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from moorage.errors import PreflightError
from moorage.pool.faults import StoreFault
from moorage.pool.sql.records import PAGE_BYTES
from moorage.pool.sqlite.schema import migrate

__all__ = ["BUSY_S", "Identity", "Place", "is_busy"]

BUSY_S = 10.0
"""How long a writer waits for another process's transaction."""

_CHECKPOINT_PAGES = 1000
_LOG_BYTES = 64 << 20
_BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

Identity = tuple[tuple[int, int], ...]


class Place:
    """One SQLite file in WAL mode."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))  # SQLite puts its log beside the file, not beside a link to it
        self._files = tuple(Path(f"{self.path}{end}") for end in ("", "-wal", "-shm"))
        self.stamps = Path(f"{self.path}-stamps")
        self._parent = str(self.path.parent)
        self._folder: tuple[int, ...] = ()

    def create(self, now: float) -> sqlite3.Connection:
        """Open the file, made when missing, with the newest schema. Raises PreflightError when it cannot be used."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # What agents said is for its owner only; the log and its index get the mode of the file.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return self._open_writer(now, "rwc")
        except (OSError, sqlite3.Error) as fault:
            raise self.unusable(fault) from fault

    def reopen(self, now: float) -> sqlite3.Connection:
        """Open the file again after a fault; it is never made anew. Raises StoreFault."""
        try:
            return self._open_writer(now, "rw")
        except (OSError, sqlite3.Error) as fault:
            raise self.fault(fault) from fault
        except PreflightError as fault:
            raise StoreFault(fault.message, hint=fault.hint) from fault

    def reader(self) -> sqlite3.Connection:
        """A connection that only reads. Raises sqlite3.Error."""
        db = self._connect("rw")
        db.execute("PRAGMA query_only = 1")
        db.execute("PRAGMA cache_size = -4000")
        return db

    def identity(self) -> Identity:
        """What stands behind the path now: the file, its log and its index. Raises StoreFault when one is missing."""
        try:
            return tuple((found.st_dev, found.st_ino) for found in (file.stat() for file in self._files))
        except OSError as fault:
            raise self.fault(fault) from fault

    def seen(self) -> Identity:
        """The same for those who only read: the log and its index may be away while nobody has the file open."""
        try:
            found = [self.path.stat()]
        except OSError as fault:
            raise self.fault(fault) from fault
        for beside in self._files[1:]:
            with suppress(FileNotFoundError):
                found.append(beside.stat())
        return tuple((one.st_dev, one.st_ino) for one in found)

    def check(self, identity: Identity) -> None:
        """Raises StoreFault unless the path leads to the same files.

        Its folder tells: as long as nothing was made, moved or deleted there, one look is enough.
        """
        try:
            found = os.stat(self._parent)  # noqa: PTH116 - twice a commit, and a tenth of what a Path costs
        except OSError as fault:
            raise self.fault(fault) from fault
        folder = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if folder == self._folder:
            return
        if self.identity() != identity:
            raise StoreFault(f"{self.path} is another file now", hint="it is opened anew; try again")
        self._folder = folder

    def doubt(self) -> None:
        """The next check looks at the files themselves."""
        self._folder = ()

    def fault(self, cause: BaseException) -> StoreFault:
        """What a user is told of an error of the file system or of SQLite."""
        return StoreFault(
            f"the store {self.path} cannot be used: {cause}",
            hint="nothing was kept; look at the disk's space, and at the file, its place and its permissions",
        )

    def unusable(self, cause: BaseException | None) -> PreflightError:
        """What a user is told of a file that cannot be opened."""
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return PreflightError(
                f"{self.path} is damaged or no SQLite file: {cause}",
                code="store_corrupt",
                hint="keep a copy of it, and name another file with --db",
            )
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            return PreflightError(
                f"{self.path} cannot be written: {cause}",
                code="store_read_only",
                hint="give write permission on it and on its folder, or name another file with --db",
            )
        return PreflightError(
            f"the store {self.path} cannot be opened: {cause}",
            code="store_unusable",
            hint="name a file in a folder that can be written with --db",
        )

    def _open_writer(self, now: float, mode: str) -> sqlite3.Connection:
        db = self._connect(mode)
        try:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            if not db.execute("PRAGMA page_count").fetchone()[0]:  # elsewhere it would write to a file that is not ours
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # what is emptied can be given back
            _enter_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            db.execute("PRAGMA cache_size = -8000")
            db.execute("PRAGMA temp_store = MEMORY")  # what undoes one operation of a commit would else be a file
            migrate(db, now, str(self.path))
            # An empty transaction makes the log and its index, so that their identity can be kept.
            db.execute("BEGIN IMMEDIATE")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        # From here on the writer waits by itself: SQLite's own waiting grows to 100 ms between two looks.
        db.execute("PRAGMA busy_timeout = 0")
        return db

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )


def is_busy(fault: sqlite3.Error) -> bool:
    """Whether another connection is in the way, for now."""
    return getattr(fault, "sqlite_errorcode", 0) & 0xFF in _BUSY_CODES


def _enter_wal(db: sqlite3.Connection) -> None:
    """Two processes that open a new file at once both switch it; SQLite does not wait for that by itself."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise OSError("the file system has no shared memory for its log")
            return
        except sqlite3.OperationalError as fault:
            if not is_busy(fault) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
