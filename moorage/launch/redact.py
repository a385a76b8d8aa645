"""Keeping secret values out of what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

SHORTEST_SECRET = 8


def redact(lines: Iterable[str], secrets: Mapping[str, str]) -> Iterator[str]:
    """Each line with every secret value of 8 characters or more replaced by its variable's name.

    A value's own lines count, each without the blanks around it: a line of a log holds no more of it.
    """
    parts = [(part.strip(), f"<{name}>") for name, value in secrets.items() for part in value.splitlines()]
    # The longest first: a value may hold another one, and what is left of it would be shown.
    values = sorted((part for part in parts if len(part[0]) >= SHORTEST_SECRET), key=lambda part: -len(part[0]))
    for line in lines:
        for value, shown in values:
            line = line.replace(value, shown)
        yield line
