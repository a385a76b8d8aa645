"""How long an endpoint's latest requests took, and how many attempts they needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moorage.engines.fleet.lane import Lane

__all__ = ["Statistics"]


class Statistics:
    """The latest requests that this endpoint answered, training and evaluation apart; a dead one answered none."""

    __slots__ = ("attempts", "evaluation", "evaluation_attempts", "train")

    def __init__(self, length: int) -> None:
        """`length`: how many requests of each are kept."""
        self.train: deque[float] = deque(maxlen=length)
        """Seconds of the attempt that was answered: until a whole reply, or a stream's head."""
        self.attempts: deque[int] = deque(maxlen=length)
        """Of the same requests, wherever they were made: 1, unless some failed before."""
        self.evaluation: deque[float] = deque(maxlen=length)
        self.evaluation_attempts: deque[int] = deque(maxlen=length)

    def answered(self, took_s: float, attempts: int, lane: Lane) -> None:
        """A request was answered here."""
        if lane == "train":
            self.train.append(took_s)
            self.attempts.append(attempts)
        else:
            self.evaluation.append(took_s)
            self.evaluation_attempts.append(attempts)

    def of_lane(self, lane: Lane) -> dict[str, Any]:
        """`requests` kept, `mean_s`, `std_s`, `p99_s`, `mean_attempts`, `retry_rate`; null where there are none."""
        if lane == "train":
            return _summary(self.train, self.attempts)
        return _summary(self.evaluation, self.evaluation_attempts)


def _summary(times: Sequence[float], attempts: Sequence[int]) -> dict[str, Any]:
    count = len(times)
    if count == 0:
        empty = dict.fromkeys(("mean_s", "std_s", "p99_s", "mean_attempts", "retry_rate"))
        return {"requests": 0, **empty}
    mean = sum(times) / count
    ordered = sorted(times)
    return {
        "requests": count,
        "mean_s": mean,
        "std_s": (sum((one - mean) ** 2 for one in times) / count) ** 0.5,
        # The least time that 99 in 100 did not exceed.
        "p99_s": ordered[max(0, -(-count * 99 // 100) - 1)],
        "mean_attempts": sum(attempts) / count,
        "retry_rate": sum(one > 1 for one in attempts) / count,
    }
