"""Lines of logs as they come, from answers that hold the last ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

__all__ = ["follow_lines", "fresh"]


def follow_lines(
    ask: Callable[[], Sequence[str]],
    is_over: Callable[[], bool],
    *,
    lines: int,
    poll_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """The last `lines` of each replica, then what is new in each answer, until `is_over` and nothing is new."""
    before: dict[str, list[str]] | None = None
    while True:
        now = _by_replica(ask())
        came = [line for told in now.values() for line in told[-lines:]] if before is None else fresh(before, now)
        yield from came
        before = now if before is None else {**before, **now}
        if not came and is_over():
            return
        sleep(poll_s)


def fresh(before: dict[str, list[str]], now: dict[str, list[str]]) -> list[str]:
    """What each replica has written since: what stands after the longest end of before that now begins with."""
    return [line for replica, told in now.items() for line in told[_overlap(before.get(replica, []), told) :]]


def _overlap(before: Sequence[str], now: Sequence[str]) -> int:
    """How many lines of `now` were there before."""
    for size in range(min(len(before), len(now)), 0, -1):
        if before[-size:] == now[:size]:
            return size
    return 0


def _by_replica(lines: Sequence[str]) -> dict[str, list[str]]:
    """By the replica's name, which is the first word of each line."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.partition(" ")[0], []).append(line)
    return found
