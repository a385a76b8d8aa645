"""Leases as Arrow tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.errors import FailedError, PreflightError
from moorage.extras import install_command

if TYPE_CHECKING:
    import pyarrow

__all__ = ["lease_ids", "read_table"]


def read_table(stream: bytes) -> pyarrow.Table:
    """Raises PreflightError without pyarrow, FailedError for what is no Arrow stream."""
    try:
        import pyarrow
    except ImportError:
        raise PreflightError(
            "tables need pyarrow", code="package_missing", next=[install_command("client", "arrow")]
        ) from None
    try:
        return pyarrow.ipc.open_stream(stream).read_all()
    except pyarrow.ArrowInvalid as fault:
        raise FailedError(f"the reply is no table: {fault}", code="bad_reply") from None


def lease_ids(table: pyarrow.Table) -> list[str]:
    """Of the leases in it, to ack or to give back; one is there even when its trajectories have no steps."""
    return list(dict.fromkeys(table["lease_id"].to_pylist()))
