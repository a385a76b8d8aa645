"""How rounds are ordered and what counts of them: decisions only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

__all__ = ["MOVED_TOO_FAR", "order_of_round", "round_ratio", "usable_rounds"]

MOVED_TOO_FAR = 2.0
"""A round in which the reference is this many times off its own median says more about the machine than the stacks."""


def order_of_round(names: Sequence[str], number: int) -> list[str]:
    """Forwards and backwards in turn."""
    return list(names) if number % 2 == 0 else list(reversed(names))


def usable_rounds(reference: Sequence[float]) -> list[int]:
    """The rounds in which the reference was itself; all of them where that leaves fewer than half."""
    middle = statistics.median(reference)
    found = [
        place
        for place, value in enumerate(reference)
        if value > 0 and max(value / middle, middle / value) <= MOVED_TOO_FAR
    ]
    return found if len(found) * 2 >= len(reference) else list(range(len(reference)))


def round_ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the ratios taken round by round, over the rounds that are usable."""
    return statistics.median(values[place] / reference[place] for place in usable_rounds(reference))
