"""How much was used in the last minute, whenever it is asked: an exact sliding window, in bounded memory."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["WINDOW_S", "Window"]

WINDOW_S = 60.0
MANY = 4096
"""With so many uses in the window later ones are noted in grains: late by one grain at most, never early."""
GRAIN_S = WINDOW_S / MANY


class Window:
    """What was used at `t` counts until `t + 60 s`, and not at that moment any more. Times are seconds, never back."""

    __slots__ = ("_total", "_uses")

    def __init__(self) -> None:
        self._uses: deque[tuple[float, int]] = deque()
        self._total = 0

    def used(self, now: float) -> int:
        """In the last minute."""
        uses = self._uses
        while uses and uses[0][0] + WINDOW_S <= now:
            self._total -= uses.popleft()[1]
        return self._total

    def wait_s(self, limit: int, now: float) -> float:
        """Until less than `limit` is used: 0 when it is now."""
        over = self.used(now) - limit
        if over < 0:
            return 0.0
        for at, amount in self._uses:
            over -= amount
            if over < 0:
                return at + WINDOW_S - now
        return WINDOW_S  # pragma: no cover - all of it is less than a limit of at least 1

    def use(self, amount: int, now: float) -> None:
        """Note a use."""
        if amount <= 0:
            return
        uses = self._uses
        if len(uses) >= MANY:
            now = math.ceil(now / GRAIN_S) * GRAIN_S
            if uses[-1][0] >= now:
                at, amount_there = uses.pop()
                now, amount = at, amount + amount_there
                self._total -= amount_there
        uses.append((now, amount))
        self._total += amount
