"""Which trajectories were written, told to all processes of the machine through a small file mapped into memory.

A slot stands for the hash of a uid and holds two numbers. Inside its transaction, so in the order of commits, the
writer puts a new number into the first, and after the commit into the second. Where they differ a commit is on its
way, or its process was killed: no copy is fresh then, until the next write or the next opening.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

__all__ = ["Stamps"]

_SLOTS = 1 << 16
_BYTES = _SLOTS * 16
_BITS = (1 << 64) - 1


class Stamps:
    """The file beside one store. Reading and writing a slot takes no lock and never waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None
        self._begun, self._done = _never_fresh()
        self._numbers = itertools.count(_some_bits())
        self._salt = 0

    def open(self) -> None:
        """Map the file, made when missing; every stamp is another one then. Raises OSError."""
        self.close()
        self._salt = _some_bits()
        place = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(place).st_size < _BYTES:
                # A hole would be filled when it is written, and end the process when the disk is full then.
                os.posix_fallocate(place, 0, _BYTES)
            self._map = mmap.mmap(place, _BYTES)
        finally:
            os.close(place)
        whole = memoryview(self._map).cast("Q")
        self._begun, self._done = whole[:_SLOTS], whole[_SLOTS:]

    def close(self) -> None:
        opened, self._map = self._map, None
        if opened is None:
            return
        self._begun, self._done = _never_fresh()
        with suppress(BufferError):  # another thread is reading a slot this moment: it goes with the last view
            opened.close()

    def heal(self) -> None:
        """Inside a transaction, so nobody is committing: slots that a killed process left are settled."""
        if self._begun == self._done:
            return
        for slot in range(len(self._begun)):
            if self._begun[slot] != self._done[slot]:
                self._begun[slot] = self._done[slot] = self.next() ^ self._salt

    def read(self, uid: str) -> int:
        """The stamp of a trajectory; while it is being written, a number that it never has."""
        begun, done = self._begun, self._done
        slot = _slot(uid, len(begun))
        first = begun[slot]
        return first ^ self._salt if first == done[slot] else self.next()

    def slot(self, uid: str) -> int:
        """Where its stamp stands, as long as the file is open."""
        return _slot(uid, len(self._begun))

    def begun(self, slot: int) -> int:
        """Inside a transaction: the stamp of the last write, or of one that was begun and failed."""
        return self._begun[slot] ^ self._salt

    def next(self) -> int:
        """A stamp that no trajectory had."""
        return next(self._numbers) & _BITS

    def begin(self, slots: Iterable[int], stamp: int) -> None:
        """Right before the commit, inside its transaction."""
        begun, number = self._begun, stamp ^ self._salt
        for slot in slots:
            begun[slot] = number

    def end(self, slots: Iterable[int], stamp: int) -> None:
        """The commit is there for all to read."""
        done, number = self._done, stamp ^ self._salt
        for slot in slots:
            done[slot] = number


def _never_fresh() -> tuple[memoryview, memoryview]:
    return memoryview(b"\0" * 8).cast("Q"), memoryview(b"\1" * 8).cast("Q")


def _some_bits() -> int:
    return int.from_bytes(os.urandom(8), "little")


def _slot(uid: str, slots: int) -> int:
    """The first one is the gateway's own (uid "")."""
    return 1 + crc32(uid.encode()) % (slots - 1) if uid and slots > 1 else 0
