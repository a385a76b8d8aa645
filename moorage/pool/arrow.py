"""Steps, leases and trajectories as Arrow tables: packed ids and log probabilities become columns as they are.

Every schema says in its metadata what it is (`moorage.schema`) and which version (`moorage.schema_version`). Columns
are only ever added within a version. JSON stands in columns of text. pyarrow is the extra `arrow`; it is imported when
the first table is made, which takes a good part of a second: not on an event loop.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.packing import ID_BYTES
from moorage.extras import package_missing
from moorage.pool.contract import Lease, PackedStep, TrajectoryRow

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "CONTENT_TYPE",
    "VERSION",
    "lease_stream",
    "need_pyarrow",
    "step_batches",
    "step_schema",
    "step_stream",
    "trajectory_stream",
]

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
VERSION = 1
"""Of every schema here."""

_FLOAT_BYTES = 8
_BATCH_ROWS = 8192
_BATCH_BYTES = 256 << 20
"""Offsets of lists and texts are 32 bits: no batch comes near that."""


def need_pyarrow() -> Any:
    """The module. Raises PreflightError when it is not installed."""
    try:
        import pyarrow
    except ImportError as fault:
        raise package_missing(
            "pyarrow", "Arrow and Parquet need the extra moorage[gateway,arrow]", "gateway", "arrow"
        ) from fault
    return pyarrow


def step_schema() -> pyarrow.Schema:
    """Of `/pool/steps`, and of what is exported."""
    pa = need_pyarrow()
    head = (_text("trajectory_uid"), _text("prompt_uid", null=True), pa.field("step_index", pa.int64(), False))
    tail = (
        _text("channel"),
        pa.field("late", pa.bool_(), False),
        pa.field("delivered", pa.bool_(), False),
        _text("marks"),
    )
    return pa.schema([*head, *_content_fields(null=False), *tail], _about("pool.steps"))


def step_batches(steps: Iterable[PackedStep]) -> Iterator[pyarrow.RecordBatch]:
    """Of `step_schema`, none of them big."""
    pa, schema = need_pyarrow(), step_schema()
    for some in _cut(steps):
        columns = [
            _texts([one.trajectory_uid for one in some]),
            _texts([one.prompt_uid for one in some]),
            pa.array([one.step_index for one in some], pa.int64()),
            *_content(some),
            _texts([one.channel for one in some]),
            pa.array([one.late for one in some], pa.bool_()),
            pa.array([one.delivered for one in some], pa.bool_()),
            _texts([one.marks for one in some]),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def step_stream(steps: Sequence[PackedStep], next_cursor: str | None) -> bytes:
    """A page of `/pool/steps`; the schema's metadata has `moorage.next_cursor` when there is another one."""
    said = {} if next_cursor is None else {"moorage.next_cursor": next_cursor}
    return _stream(step_schema(), step_batches(steps), said)


def lease_stream(leases: Sequence[Lease], skipped_stale: int) -> bytes:
    """One row a step of packed steps. A trajectory without steps is one row whose `step_index` is null."""
    schema = _lease_schema()
    rows = [
        (lease, trajectory, step)
        for lease in leases
        for trajectory in lease.trajectories
        for step in (trajectory["steps"] or [None])
    ]
    said = {"moorage.skipped_stale": str(skipped_stale), "moorage.leases": str(len(leases))}
    return _stream(schema, (_lease_batch(schema, some) for some in _cut(rows, lambda row: row[2])), said)


def trajectory_stream(rows: Sequence[TrajectoryRow], next_cursor: str | None) -> bytes:
    """A page of `/pool/trajectories`."""
    pa = need_pyarrow()
    at = pa.timestamp("us", "UTC")
    schema = pa.schema(
        [
            _text("trajectory_uid"),
            _text("prompt_uid", null=True),
            _text("channel"),
            _text("state"),
            pa.field("steps", pa.int64(), False),
            pa.field("late_steps", pa.int64(), False),
            pa.field("reward", pa.float64()),
            _text("metadata"),
            pa.field("created_at", at, False),
            pa.field("completed_at", at),
        ],
        _about("pool.trajectories"),
    )
    columns = [
        *(
            _texts([getattr(row, name) for row in rows])
            for name in ("trajectory_uid", "prompt_uid", "channel", "state")
        ),
        *(pa.array([getattr(row, name) for row in rows], pa.int64()) for name in ("steps", "late_steps")),
        pa.array([row.reward for row in rows], pa.float64()),
        _texts([msgspec.json.encode(row.metadata) for row in rows]),
        *(pa.array([_us(getattr(row, name)) for row in rows], at) for name in ("created_at", "completed_at")),
    ]
    said = {} if next_cursor is None else {"moorage.next_cursor": next_cursor}
    return _stream(schema, [pa.RecordBatch.from_arrays(columns, schema=schema)] if rows else [], said)


def _lease_schema() -> pyarrow.Schema:
    pa = need_pyarrow()
    head = (
        _text("lease_id"),
        _text("channel"),
        _text("prompt_uid"),
        pa.field("attempt", pa.int64(), False),
        pa.field("expires_at", pa.timestamp("us", "UTC"), False),
        _text("trajectory_uid"),
        pa.field("trajectory_reward", pa.float64()),
        _text("trajectory_metadata"),
        pa.field("step_index", pa.int64()),
    )
    return pa.schema([*head, *_content_fields(null=True)], _about("pool.leases"))


def _lease_batch(
    schema: pyarrow.Schema, rows: Sequence[tuple[Lease, Mapping[str, Any], PackedStep | None]]
) -> pyarrow.RecordBatch:
    pa = need_pyarrow()
    columns = [
        _texts([lease.lease_id for lease, _, _ in rows]),
        _texts([lease.channel for lease, _, _ in rows]),
        _texts([lease.prompt_uid for lease, _, _ in rows]),
        pa.array([lease.attempt for lease, _, _ in rows], pa.int64()),
        pa.array([_us(lease.expires_at) for lease, _, _ in rows], pa.timestamp("us", "UTC")),
        _texts([run["trajectory_uid"] for _, run, _ in rows]),
        pa.array([run["reward"] for _, run, _ in rows], pa.float64()),
        _texts([msgspec.json.encode(run["metadata"]) for _, run, _ in rows]),
        pa.array([None if step is None else step.step_index for _, _, step in rows], pa.int64()),
        *_content([step for _, _, step in rows]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _content_fields(*, null: bool) -> list[Any]:
    """What a step holds. `null`: rows may have no step."""
    pa = need_pyarrow()
    return [
        pa.field("prompt_ids", pa.list_(pa.field("item", pa.uint32(), False)), null),
        pa.field("response_ids", pa.list_(pa.field("item", pa.uint32(), False)), null),
        pa.field("rollout_log_probs", pa.list_(pa.field("item", pa.float64(), False))),
        pa.field("reward", pa.float64()),
        pa.field("policy_version", pa.int64(), null),
        pa.field("is_last", pa.bool_(), null),
        _text("metadata", null=null),
        _text("multi_modal_data", null=True),
        _text("routed_experts", null=True),
    ]


def _content(steps: Sequence[PackedStep | None]) -> list[Any]:
    pa = need_pyarrow()

    def each(name: str) -> list[Any]:
        return [None if one is None else getattr(one, name) for one in steps]

    return [
        _lists(each("prompt_ids"), pa.uint32(), ID_BYTES),
        _lists(each("response_ids"), pa.uint32(), ID_BYTES),
        _lists(each("rollout_log_probs"), pa.float64(), _FLOAT_BYTES),
        pa.array(each("reward"), pa.float64()),
        pa.array(each("policy_version"), pa.int64()),
        pa.array(each("is_last"), pa.bool_()),
        *(_texts(each(name)) for name in ("metadata", "multi_modal_data", "routed_experts")),
    ]


def _lists(packed: Sequence[bytes | None], item: Any, width: int) -> Any:
    """A column of lists over the very bytes, joined."""
    pa = need_pyarrow()
    data = b"".join([one for one in packed if one])
    if sys.byteorder == "big":
        swapped = array("I" if width == ID_BYTES else "d", data)
        swapped.byteswap()
        data = swapped.tobytes()
    values = pa.Array.from_buffers(item, len(data) // width, [None, pa.py_buffer(data)])
    mask, nulls = _validity(packed)
    kind = pa.list_(pa.field("item", item, False))
    return pa.Array.from_buffers(kind, len(packed), [mask, _offsets(packed, width)], nulls, children=[values])


def _texts(values: Sequence[str | bytes | None]) -> Any:
    """A column of text; bytes are UTF-8 already."""
    pa = need_pyarrow()
    encoded = [one.encode() if isinstance(one, str) else one for one in values]
    mask, nulls = _validity(encoded)
    data = pa.py_buffer(b"".join([one for one in encoded if one]))
    return pa.Array.from_buffers(pa.string(), len(encoded), [mask, _offsets(encoded, 1), data], nulls)


def _offsets(parts: Sequence[bytes | None], width: int) -> Any:
    lengths = (0 if one is None else len(one) // width for one in parts)
    return need_pyarrow().py_buffer(array("i", accumulate(lengths, initial=0)).tobytes())


def _validity(values: Sequence[object | None]) -> tuple[Any, int]:
    """A bit a value, None when all are there; and how many are not."""
    nulls = sum(one is None for one in values)
    if not nulls:
        return None, 0
    pa = need_pyarrow()
    return pa.array([one is not None for one in values], pa.bool_()).buffers()[1], nulls


def _cut(rows: Iterable[Any], step_of: Any = lambda row: row) -> Iterator[list[Any]]:
    """Rows of one batch each."""
    some: list[Any] = []
    held = 0
    for row in rows:
        some.append(row)
        held += _weight(step_of(row))
        if len(some) >= _BATCH_ROWS or held >= _BATCH_BYTES:
            yield some
            some, held = [], 0
    if some:
        yield some


def _weight(step: PackedStep | None) -> int:
    """About how many bytes its longest columns hold."""
    if step is None:
        return 0
    rare = len(step.multi_modal_data or b"") + len(step.routed_experts or b"")
    return len(step.prompt_ids) + len(step.response_ids) * 3 + len(step.metadata) + rare


def _stream(schema: Any, batches: Iterable[Any], said: Mapping[str, str]) -> bytes:
    pa = need_pyarrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema.with_metadata({**(schema.metadata or {}), **said})) as writer:
        for batch in batches:
            writer.write_batch(batch)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _about(name: str) -> dict[str, str]:
    return {"moorage.schema": name, "moorage.schema_version": str(VERSION)}


def _text(name: str, *, null: bool = False) -> Any:
    pa = need_pyarrow()
    return pa.field(name, pa.string(), null)


def _us(at: float | None) -> int | None:
    return None if at is None else round(at * 1_000_000)
