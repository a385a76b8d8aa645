"""What is counted of one endpoint, for whoever watches the fleet."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["BOUNDS_S", "Counts"]

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0)


class Counts:
    """Since the endpoint was configured. Buckets are each by itself; the last is for what took longer."""

    __slots__ = ("faults", "head_s", "head_sum_s", "retries", "statuses", "turns", "whole_s", "whole_sum_s")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        """Replies by status."""
        self.faults: dict[str, int] = {}
        """Attempts that got no reply, by the code of what went wrong."""
        self.retries = 0
        """Attempts that were followed by another one, here or elsewhere."""
        self.turns = {"up": 0, "down": 0}
        """How often it came back, and how often it went out."""
        self.whole_s = [0] * (len(BOUNDS_S) + 1)
        """How long until a whole reply was there."""
        self.whole_sum_s = 0.0
        self.head_s = [0] * (len(BOUNDS_S) + 1)
        """How long until the head of a streamed reply was there."""
        self.head_sum_s = 0.0

    def answered(self, status: int, took_s: float, *, streamed: bool) -> None:
        """A reply came."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if streamed:
            self.head_s[bisect_left(BOUNDS_S, took_s)] += 1
            self.head_sum_s += took_s
        else:
            self.whole_s[bisect_left(BOUNDS_S, took_s)] += 1
            self.whole_sum_s += took_s

    def failed(self, code: str) -> None:
        """No reply came."""
        self.faults[code] = self.faults.get(code, 0) + 1

    def turned(self, healthy: bool) -> None:
        """It went out, or came back."""
        self.turns["up" if healthy else "down"] += 1
