"""`moor trace export`: steps, nodes or calls, a few at a time however big the store is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec

from moorage.capture.call import Call
from moorage.capture.views.nodes import nodes_of
from moorage.errors import FailedError, NotFoundError
from moorage.pool.archive import Archive, Trace
from moorage.traces.calls import calls_of, record_broken, tree_of
from moorage.traces.exporting.file import writing
from moorage.traces.verifying.verify import all_traces, need_trace

if TYPE_CHECKING:
    from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["Format", "export"]

Format = Literal["jsonl", "nodes", "parquet"]

STEPS_A_PAGE = 64
ROW_GROUP_BYTES = 16 << 20
"""Of token ids and log probabilities, before a row group of Parquet is written."""

Progress = Callable[[int, int], None]


async def export(
    archive: Archive,
    uid: str | None,
    *,
    kind: Format,
    output: Path,
    force: bool,
    tokenizer: Tokenizer | None,
    progress: Progress,
) -> int:
    """Write the trajectory `uid` (None: all) to `output`; how many rows there are.

    `tokenizer`: for the text of nodes; None: it is empty. Raises NotFoundError, ConflictError `output_exists`,
    FailedError `record_broken` and `output_failed`; then there is no file.
    """
    traces = _one(archive, uid) if uid is not None else all_traces(archive)
    with writing(output, force=force) as out:
        if kind == "parquet":
            return await _parquet(archive, traces, out, await _counting(archive, uid, progress))
        rows = _steps if kind == "jsonl" else _nodes
        return await rows(archive, traces, out, tokenizer, await _counting(archive, uid, progress))


async def _one(archive: Archive, uid: str) -> AsyncIterator[Trace]:
    yield await need_trace(archive, uid)


async def _counting(archive: Archive, uid: str | None, progress: Progress) -> Callable[[], None]:
    """To be called after each trajectory."""
    total = 1 if uid is not None else (await archive.size())[0]
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress(done, max(done, total))

    return count


async def _steps(
    archive: Archive,
    traces: AsyncIterator[Trace],
    out: IO[bytes],
    tokenizer: Tokenizer | None,
    count: Callable[[], None],
) -> int:
    """The contract's steps, one a line, with channel, late, delivered and marks."""
    del tokenizer
    rows = 0
    async for trace in traces:
        cursor: str | None = None
        while True:
            page = await archive.steps({"trajectory_uid": trace.trajectory.uid}, STEPS_A_PAGE, cursor)
            for step in page.rows:
                out.write(msgspec.json.encode(step) + b"\n")
            rows += len(page.rows)
            cursor = page.next_cursor
            if cursor is None:
                break
        count()
    return rows


async def _nodes(
    archive: Archive,
    traces: AsyncIterator[Trace],
    out: IO[bytes],
    tokenizer: Tokenizer | None,
    count: Callable[[], None],
) -> int:
    """Atropos's nodes, one a line, each with its session's `uuid`."""

    def decode(ids: list[int]) -> str:
        return "" if tokenizer is None else tokenizer.decode(ids, skip_special=False)

    rows = 0
    async for trace in traces:
        uid, options = trace.trajectory.uid, trace.trajectory.options
        calls = await _calls_of(archive, trace)
        tree_of(uid, calls)
        for node in nodes_of(calls, decode, track_tree=bool(options.get("track_tree"))):
            out.write(msgspec.json.encode({"uuid": uid, **node}) + b"\n")
            rows += 1
        count()
    return rows


async def _parquet(archive: Archive, traces: AsyncIterator[Trace], out: IO[bytes], count: Callable[[], None]) -> int:
    """One row a call (`moorage.capture.views.table`), in row groups of a size."""
    from moorage.capture.views.table import arrow_table

    waiting: list[Call] = []
    size, rows = 0, 0
    schema = arrow_table([]).schema  # raises PreflightError without pyarrow
    import pyarrow.parquet as parquet

    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        async for trace in traces:
            calls = await _calls_of(archive, trace)
            waiting += calls
            size += sum(len(c.record.delta) + len(c.record.completion) + len(c.record.logprobs or b"") for c in calls)
            rows += len(calls)
            if size >= ROW_GROUP_BYTES:
                writer.write_table(_table(waiting))
                waiting, size = [], 0
            count()
        if waiting or not rows:
            writer.write_table(_table(waiting))
    return rows


async def _calls_of(archive: Archive, trace: Trace) -> list[Call]:
    """None of a trajectory that was let go meanwhile."""
    try:
        return await calls_of(archive, trace)
    except NotFoundError:
        return []


def _table(calls: list[Call]) -> Any:
    from moorage.capture.views.table import arrow_table

    try:
        return arrow_table(calls)
    except (ValueError, FailedError) as fault:
        raise record_broken(calls[0].record.session_id, str(fault)) from None
