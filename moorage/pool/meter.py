"""What a store's writer counts of its work: once a commit, never once a call."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

__all__ = ["BATCH_BOUNDS", "COMMIT_BOUNDS_S", "StoreMeter"]

COMMIT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class StoreMeter:
    """Read by `/metrics`, written on the event loop of the store. Buckets are not cumulative; the last is +Inf's."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """`waiting`: how many writes were asked for and are not answered yet."""
        self.waiting = waiting
        self.commit_s = [0] * (len(COMMIT_BOUNDS_S) + 1)
        self.commit_sum_s = 0.0
        self.batches = [0] * (len(BATCH_BOUNDS) + 1)
        self.writes = 0
        self.faults = 0
        """Writes that could not be made durable: the disk, or the database, was not there."""

    def committed(self, writes: int, took_s: float) -> None:
        """One commit of so many writes; `took_s`: from its beginning until it was on the disk."""
        self.commit_s[bisect_left(COMMIT_BOUNDS_S, took_s)] += 1
        self.commit_sum_s += took_s
        self.batches[bisect_left(BATCH_BOUNDS, writes)] += 1
        self.writes += writes

    def failed(self, writes: int) -> None:
        """A commit that did not happen."""
        self.faults += writes
