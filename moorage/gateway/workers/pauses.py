"""How long a worker that died stays away: at once back the first time, later and later when it dies again and again."""

from __future__ import annotations

__all__ = ["STEADY_S", "pause_s"]

STEADY_S = 2.0
"""One that has served for so long had begun well."""
FIRST_S = 0.25
LONGEST_S = 10.0


def pause_s(deaths: int) -> float:
    """Before the next start. `deaths`: in a row, none of which came after a steady life."""
    if deaths <= 1:
        return 0.0
    return float(min(LONGEST_S, FIRST_S * 2 ** min(deaths - 2, 30)))
