"""A file that is written whole or not at all, and takes no other's place unless told to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from moorage.errors import ConflictError, FailedError, PreflightError, UsageError

__all__ = ["write_whole", "writing"]


def write_whole(path: Path, parts: Iterable[bytes], *, force: bool) -> None:
    """The parts, one after the other; raises as `writing` does."""
    with writing(path, force=force) as out:
        for part in parts:
            out.write(part)


@contextlib.contextmanager
def writing(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """A file that stands at `path` when the block ends well, and is gone when it does not; for its owner only.

    Raises ConflictError `output_exists` without `force`, before anything is written and again at the end; UsageError
    for a folder, PreflightError `output_unwritable`, FailedError `output_failed` when the disk does not take it.
    """
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise UsageError(f"{path} is {what}", code="bad_value", hint="name a file in a folder")
    if force:
        path = Path(os.path.realpath(path))  # a link stays one, and what it leads to is written anew
    if not force and os.path.lexists(path):
        raise _exists(path)
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent)
    except OSError as fault:
        message = f"{path} cannot be written: {fault.strerror}"
        hint = "name a file in a folder that is there and can be written"
        raise PreflightError(message, code="output_unwritable", hint=hint) from None
    part = Path(name)
    try:
        with os.fdopen(number, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        _put(part, path, force=force)
    except OSError as fault:
        message = f"{path} was not written: {fault.strerror or fault}"
        raise FailedError(message, code="output_failed", hint="look at the disk's space") from fault
    finally:
        part.unlink(missing_ok=True)


def _put(part: Path, path: Path, *, force: bool) -> None:
    if force:
        part.replace(path)
        return
    try:
        os.link(part, path)  # unlike a rename it never takes another file's place
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise _exists(path) from None
        part.replace(path)


def _exists(path: Path) -> ConflictError:
    return ConflictError(f"{path} is there already", code="output_exists", hint="--force puts the new one in its place")
