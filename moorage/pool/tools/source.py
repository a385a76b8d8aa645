"""Where `moor pool` reads: a gateway over HTTP, or a store itself. Both are used by one thread, and wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow

    from moorage.pool.contract import Retention

__all__ = ["FILTERS", "Source"]

FILTERS = ("channel", "trajectory_uid", "prompt_uid", "policy_version", "state")
"""What steps can be chosen by."""


class Source(Protocol):
    """All of them raise TryAgainError when nobody answers, and what the gateway or the store refuses."""

    name: str
    """For messages: an address, or a file."""

    def close(self) -> None:
        """Leave it as it was."""

    def stats(self, channel: str | None, n_rollouts: int | None) -> dict[str, Any]:
        """`{channel: {...}}`. `n_rollouts` None: the gateway's, or 1."""

    def lines(self, filters: Mapping[str, Any]) -> Iterator[list[bytes]]:
        """Steps in the order of commits, each a JSON object without a line's end, some at a time."""

    def batches(self, filters: Mapping[str, Any]) -> Iterator[list[pyarrow.RecordBatch]]:
        """The same as tables of `moorage.pool.arrow.step_schema`."""

    def events(self, channel: str | None, after: int | None) -> Iterator[dict[str, Any]]:
        """What came after that event and then what comes, for ever; None: from now on. Each has its number as `id`."""

    def mark(self, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
        """All marks that the step has now."""

    def retain(self, ask: Retention, *, dry_run: bool) -> dict[str, Any]:
        """What went, or would: `moorage.pool.contract.Retained`."""
