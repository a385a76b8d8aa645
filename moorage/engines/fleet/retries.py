"""When a request may be asked again: before anything of its reply was seen, and only for what may pass. Pure."""

from __future__ import annotations

__all__ = ["ATTEMPTS", "is_worth_another", "pause_s"]

ATTEMPTS = 4
PAUSES_S = (0.05, 0.2, 0.5)
LONGEST_PAUSE_S = 2.0
FOR_GOOD = (501, 505)
"""Errors that say: never. The engine has no such route, or does not speak our HTTP."""


def is_worth_another(status: int) -> bool:
    """Whether an error reply may be another the next time. Never for what the client did wrong (4xx)."""
    return status >= 500 and status not in FOR_GOOD


def pause_s(attempt: int, retry_after: bytes | None = None) -> float:
    """How long to wait after attempt 0, 1, 2…; what the upstream asked for counts up to two seconds."""
    pause = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
    if retry_after is not None and retry_after.isdigit():
        pause = max(pause, min(float(retry_after), LONGEST_PAUSE_S))
    return pause
