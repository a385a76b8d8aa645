"""How late the event loop is: every request of the worker waits so long on top of its own work."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from time import perf_counter

from moorage.gateway.metrics.family import Family, histogram

__all__ = ["LoopLag"]

EVERY_S = 0.25
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """Run it as a task."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    async def run(self) -> None:
        """Ask to be woken, and see how late that is."""
        while True:
            due = perf_counter() + EVERY_S  # the loop's own clock counts whole milliseconds
            await asyncio.sleep(EVERY_S)
            late_s = max(0.0, perf_counter() - due)
            self._counts[bisect_left(BOUNDS_S, late_s)] += 1
            self._sum_s += late_s

    def family(self) -> Family:
        """A histogram; four samples a second."""
        told = {(): (self._counts, self._sum_s)}
        return histogram("moorage_event_loop_lag_seconds", "How late the event loop wakes a task.", BOUNDS_S, told)
