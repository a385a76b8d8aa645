"""Calls as an Arrow table: one row a call, ids as lists of uint32, prompts as what they add to their parent's path."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from moorage.capture.call import Call
from moorage.capture.packing import ID_BYTES, count
from moorage.errors import PreflightError
from moorage.extras import install_command

__all__ = ["arrow_table"]

_FLOAT_BYTES = 8


def arrow_table(calls: Sequence[Call]) -> Any:
    """A `pyarrow.Table` with one row a call, in the order given; several sessions may be in one table.

    `prompt_tokens` counts the whole prompt, which is the first `keep` tokens of the path of the session's call
    `parent` (null: none), and then `delta`. `logprobs` is null where none are known. Raises PreflightError without
    pyarrow.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise PreflightError(
            "an Arrow table needs pyarrow, which is not installed",
            code="package_missing",
            hint="install the extra arrow",
            next=[install_command("arrow")],
        ) from None
    columns: dict[str, Any] = {
        name: pa.array([read(call) for call in calls], type=getattr(pa, kind)()) for name, kind, read in _PLAIN
    }
    records = [call.record for call in calls]
    columns["delta"] = _lists(pa, [record.delta for record in records], pa.uint32(), ID_BYTES)
    columns["completion"] = _lists(pa, [record.completion for record in records], pa.uint32(), ID_BYTES)
    columns["logprobs"] = _lists(pa, [record.logprobs for record in records], pa.float64(), _FLOAT_BYTES)
    span = pa.struct([("version", pa.string()), ("start", pa.int64()), ("end", pa.int64())])
    spans = [
        [{"version": one.version, "start": one.start, "end": one.end} for one in record.spans] for record in records
    ]
    columns["spans"] = pa.array(spans, type=pa.list_(span))
    return pa.table(columns)


def _lists(pa: Any, rows: Sequence[bytes | None], kind: Any, item_bytes: int) -> Any:
    """A list column whose values are the rows' bytes as they are."""
    values = b"".join(row or b"" for row in rows)
    if sys.byteorder == "big":
        swapped = array("I" if item_bytes == ID_BYTES else "d", values)
        swapped.byteswap()
        values = swapped.tobytes()
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row or b"") // item_bytes)
    flat = pa.Array.from_buffers(kind, offsets[-1], [None, pa.py_buffer(values)])
    missing = pa.array([row is None for row in rows], type=pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(offsets, type=pa.int64()), flat, mask=missing)


_PLAIN: tuple[tuple[str, str, Callable[[Call], Any]], ...] = (
    ("session_id", "string", lambda call: call.record.session_id),
    ("seq", "int64", lambda call: call.seq),
    ("step_index", "int64", lambda call: call.step_index),
    ("call_id", "string", lambda call: call.record.call_id),
    ("request_id", "string", lambda call: call.record.request_id),
    ("choice", "int32", lambda call: call.record.choice),
    ("parent", "int64", lambda call: call.record.parent),
    ("keep", "int64", lambda call: call.record.keep),
    ("prompt_tokens", "int64", lambda call: call.record.keep + count(call.record.delta)),
    ("finish_reason", "string", lambda call: call.record.finish_reason),
    ("stop_token", "bool_", lambda call: call.record.stop_token),
    ("source", "string", lambda call: call.record.source),
    ("mode", "string", lambda call: call.record.mode),
    ("verdict", "string", lambda call: call.record.verdict),
    ("reason", "string", lambda call: call.record.reason),
    ("delivered", "bool_", lambda call: call.record.delivered),
    ("late", "bool_", lambda call: call.late),
    ("is_last", "bool_", lambda call: call.is_last),
    ("reward", "float64", lambda call: call.reward),
    ("model", "string", lambda call: call.record.model),
    ("policy_version", "int64", lambda call: call.record.policy_version),
    ("created_at", "float64", lambda call: call.record.created_at),
    ("hash", "binary", lambda call: call.hash),
)
