"""How long to wait before the next try. Pure."""

from __future__ import annotations

FIRST_S = 0.2
LONGEST_S = 10.0
LONGEST_REFUSED_S = 60.0
"""After a refused login: hosts lock out who tries too often."""


def pause_s(failures: int, jitter: float, *, refused: bool = False) -> float:
    """Seconds to wait after so many failures in a row (1 and more): twice as long each time, up to a limit.

    `jitter`, from 0 to 1, takes up to half of it away, so that tunnels that broke together do not come back together.
    """
    longest = LONGEST_REFUSED_S if refused else LONGEST_S
    return float(min(longest, FIRST_S * 2 ** min(failures - 1, 20))) * (1 - jitter / 2)
