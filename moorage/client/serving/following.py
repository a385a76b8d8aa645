"""Lines of logs as they come, from answers that hold the last ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from moorage.errors import NotFoundError

__all__ = ["follow_lines", "fresh"]

MOST_GONE = 64
"""Replicas that are not told of any more and whose lines are still known: they may come again."""


def follow_lines(
    ask: Callable[[], Sequence[str]],
    is_over: Callable[[], bool],
    *,
    lines: int,
    poll_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """The last `lines` of each replica, then what is new in each answer, until `is_over` and nothing is new.

    What was there and is not found any more is over too. Raises what `ask` raises otherwise.
    """
    before: dict[str, list[str]] | None = None
    while True:
        try:
            now = _by_replica(ask())
        except NotFoundError:
            if before is None:
                raise
            return
        came = [line for told in now.values() for line in told[-lines:]] if before is None else fresh(before, now)
        yield from came
        before = now if before is None else _joined(before, now)
        if not came and _has_ended(is_over):
            return
        sleep(poll_s)


def fresh(before: dict[str, list[str]], now: dict[str, list[str]]) -> list[str]:
    """What each replica has written since."""
    return [line for replica, told in now.items() for line in _added(before.get(replica, []), told)]


def _added(before: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """What stands after the longest end of before that now begins with.

    Without such an end lines may have come in between those that were there, as where several files are put together
    by their times: then those are new that were not there. When most of them were not, all are: it started anew.
    """
    for size in range(min(len(before), len(now)), 0, -1):
        if before[-size:] == now[:size]:
            return now[size:]
    known = Counter(before)
    new = []
    for line in now:
        if known[line] > 0:
            known[line] -= 1
        else:
            new.append(line)
    return new if 2 * len(new) < len(now) else now


def _joined(before: dict[str, list[str]], now: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is known of each replica, and of those that are gone of the latest only."""
    gone = [name for name in before if name not in now][-MOST_GONE:]
    return {**{name: before[name] for name in gone}, **now}


def _has_ended(is_over: Callable[[], bool]) -> bool:
    try:
        return is_over()
    except NotFoundError:
        return True


def _by_replica(lines: Sequence[str]) -> dict[str, list[str]]:
    """By the replica's name, which is the first word of each line."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.partition(" ")[0], []).append(line)
    return found
