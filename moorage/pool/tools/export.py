"""Steps into a file, some at a time: the file is there when it is whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from moorage.errors import ConflictError, FailedError
from moorage.pool.arrow import need_pyarrow, step_schema
from moorage.pool.tools.source import Source

__all__ = ["Format", "export"]

Format = Literal["parquet", "jsonl"]

_GROUP_ROWS = 16384
_GROUP_BYTES = 64 << 20
"""A row group of a Parquet file is held in memory until it is written."""
_TELL_S = 1.0


def export(
    source: Source,
    kind: Format,
    path: Path,
    filters: Mapping[str, Any],
    *,
    force: bool,
    tell: Callable[[int, int], None],
) -> tuple[int, int]:
    """Write the steps that `filters` choose; how many, and how many bytes.

    `tell(steps, bytes)` is called about once a second. What is committed meanwhile comes along, until there is no more.
    Raises ConflictError `output_exists` unless `force`, FailedError when the file cannot be written, PreflightError
    `package_missing`, and what the source raises; the file is then as it was before.
    """
    if not force and os.path.lexists(path):
        raise _exists(path)
    write = _write_parquet if kind == "parquet" else _write_lines
    try:
        with _whole_or_nothing(path, force=force) as file:
            steps = write(source, filters, file, _Told(tell, file))
            size = file.tell()
    except OSError as fault:
        raise FailedError(
            f"{path} cannot be written: {fault.strerror or fault}",
            code="output_not_written",
            hint="nothing of it was left; look at the folder, its permissions and the disk's space",
        ) from fault
    return steps, size


class _Told:
    """Tells now and then."""

    def __init__(self, tell: Callable[[int, int], None], file: BinaryIO) -> None:
        self._tell = tell
        self._file = file
        self._at = time.monotonic()

    def __call__(self, steps: int) -> None:
        now = time.monotonic()
        if now - self._at >= _TELL_S:
            self._at = now
            self._tell(steps, self._file.tell())


def _write_lines(source: Source, filters: Mapping[str, Any], file: BinaryIO, told: _Told) -> int:
    steps = 0
    for some in source.lines(filters):
        file.writelines(line + b"\n" for line in some)
        steps += len(some)
        told(steps)
    return steps


def _write_parquet(source: Source, filters: Mapping[str, Any], file: BinaryIO, told: _Told) -> int:
    pa = need_pyarrow()
    import pyarrow.parquet as pq

    steps = 0
    schema = step_schema()
    held: list[Any] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for some in source.batches(filters):
            held += some
            steps += sum(batch.num_rows for batch in some)
            rows = sum(batch.num_rows for batch in held)
            if rows >= _GROUP_ROWS or sum(batch.nbytes for batch in held) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held = []
            told(steps)
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))
    return steps


@contextlib.contextmanager
def _whole_or_nothing(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file beside `path`, its owner's alone, that takes its place when the block was left well."""
    target = Path(os.path.realpath(path))
    number, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(name, target)  # noqa: PTH105 - beside its neighbour
        else:
            _settle(name, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108


def _settle(name: str, target: Path) -> None:
    """Under its own name, and never in the place of a file that came meanwhile: a rename would take it."""
    try:
        os.link(name, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise _exists(target) from None
        os.replace(name, target)  # noqa: PTH105


def _exists(path: Path) -> ConflictError:
    return ConflictError(f"{path} is there already", code="output_exists", hint="--force writes over it")
