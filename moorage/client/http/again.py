"""Whether a request is sent again, and after what pause: a pure decision.

| what happened | sent again |
| --- | --- |
| no connection could be made | always: nothing arrived |
| the connection broke, or was silent | when the request is repeatable |
| 408, 425, 429, 503 | when the request is repeatable |
| 502, 504 of something in between | when the request is repeatable |
| 500 with `Retry-After` | when the request is repeatable |
| any other reply, the gateway's own 502 and 504 among them | never: it has tried itself |

and only while the pauses fit into the client's patience.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["Trouble", "may_pass", "pause_before", "retry_after_of"]

Trouble = Literal["unconnected", "broken", "passing"]
"""No connection; a connection that ended too early; a status that may pass."""

PASSING = frozenset((408, 425, 429, 503))
IN_BETWEEN = frozenset((502, 504))
FAILED = 500
"""Passes when the server says so itself: the serving API's store restarts, or is locked."""
SHORTEST_S, LONGEST_S = 0.1, 2.0


def pause_before(
    trouble: Trouble,
    *,
    repeatable: bool,
    attempts: int,
    waited_s: float,
    patience_s: float,
    retry_after_s: float | None,
    chance: float,
) -> float | None:
    """Seconds to wait before the next attempt; None: give up. `attempts`: those made; `chance`: 0 to 1, at random."""
    if trouble != "unconnected" and not repeatable:
        return None
    pause = min(LONGEST_S, SHORTEST_S * 2.0 ** min(attempts - 1, 10)) * (0.5 + chance / 2)
    if retry_after_s is not None:
        pause = max(pause, retry_after_s)
    return pause if waited_s + pause <= patience_s else None


def may_pass(status: int, code: str, retry_after_s: float | None = None) -> bool:
    """Whether a reply of that status may be another one soon. `code`: the fault's; a proxy's replies have none of
    their own. `retry_after_s`: what the reply says of when."""
    return (
        status in PASSING
        or (status in IN_BETWEEN and code == f"http_{status}")
        or (status == FAILED and retry_after_s is not None)
    )


def retry_after_of(header: str | None) -> float | None:
    """Seconds; None for none, and for a date."""
    if header is None or not header.strip().isdigit():
        return None
    return float(header.strip()[:6])
