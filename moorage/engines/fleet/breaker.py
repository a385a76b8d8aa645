"""A circuit breaker: an endpoint whose requests fail one after another is spared for a while, healthy or not.

It only says whom to prefer: where nobody else may take a request, a spared endpoint is asked all the same, since a
refusal helps nobody.
"""

from __future__ import annotations

__all__ = ["Breaker"]

FAILURES = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Breaker:
    """Closed, then open after five failures in a row; after a pause one failure more opens it again, for longer."""

    __slots__ = ("_failures", "_pause_s", "is_open", "opened", "until_s")

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self.is_open = False
        self.until_s = 0.0
        """When it is tried again, on the fleet's clock."""
        self.opened = 0
        """How often it opened."""

    def succeeded(self) -> None:
        """A request was answered, and not by a 5xx."""
        if self._failures:
            self._failures = 0
            self._pause_s = FIRST_PAUSE_S
            self.is_open = False

    def failed(self, now_s: float) -> bool:
        """A request failed; whether that opened it."""
        self._failures += 1
        if self.is_open or self._failures < FAILURES:
            return False
        self.is_open = True
        self.opened += 1
        self.until_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True

    def try_again(self, now_s: float) -> bool:
        """Close it when its pause is over, on trial; whether it is closed now."""
        if self.is_open and now_s >= self.until_s:
            self.is_open = False
        return not self.is_open
