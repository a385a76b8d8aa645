"""A clock that tells the time of day and never jumps."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["steady_clock"]


def steady_clock(clock: Callable[[], float], monotonic: Callable[[], float]) -> Callable[[], float]:
    """Unix seconds as `clock` had them now, and from then on as many more as `monotonic` says.

    For what is compared with itself: somebody who sets the clock must not end sessions.
    """
    ahead = clock() - monotonic()
    return lambda: monotonic() + ahead
