"""Keeping secret values out of what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

SHORTEST_SECRET = 8


def redact(lines: Iterable[str], secrets: Mapping[str, str]) -> Iterator[str]:
    """Each line with every secret value of 8 characters or more replaced by its variable's name."""
    values = [(value, f"<{name}>") for name, value in secrets.items() if len(value) >= SHORTEST_SECRET]
    for line in lines:
        for value, shown in values:
            line = line.replace(value, shown)
        yield line
