"""The folder of the workers' sockets, which no parent that was killed leaves behind for ever.

Whoever has it open holds a lock on it: the parent, and its workers, which inherit that. A folder without one is
nobody's any more; the next parent of the same user removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["sockets_folder"]

PREFIX = "moorage-workers-"
LONGEST_PATH = 90
"""A socket's path has 107 bytes at most."""
NEW_S = 60.0
"""A folder that is younger may not be locked yet."""


@contextlib.contextmanager
def sockets_folder() -> Iterator[Path]:
    """A new folder that only this user can open, with a short path; it goes at the end."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    if len(str(folder)) > LONGEST_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_those_left(folder.parent)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_those_left(where: Path) -> None:
    for folder in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or another parent was first
            found = folder.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < NEW_S:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
