"""Lines that replicas wrote: the first word of each is the replica's name."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LONGEST_LINE", "by_replica", "last_of_each"]

LONGEST_LINE = 4096
"""Characters; longer ones are cut before anybody sees them."""


def by_replica(lines: Iterable[str]) -> dict[str, list[str]]:
    """Replica's name → its lines in their order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.partition(" ")[0], []).append(line)
    return found


def last_of_each(lines: Iterable[str], count: int) -> list[str]:
    """The last `count` lines of every replica."""
    return [line for told in by_replica(lines).values() for line in told[-count:]]
