"""A range of numbers, as the reference file writes it: `> 0`, `<= 1`, `>= 1 or -1`. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["Range", "range_of"]

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        ">=": operator.ge,
        "<=": operator.le,
        ">": operator.gt,
        "<": operator.lt,
        "=": operator.eq,
    }
)
_BOUND = re.compile(r"(>=|<=|>|<)? ?(-?[0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True, slots=True)
class Range:
    """Any one of `ways` must hold in full."""

    text: str
    """For people, as it was written."""
    ways: tuple[tuple[tuple[str, float], ...], ...]

    def holds(self, value: object) -> bool:
        """Whether a number is in it; anything that is no number is, since its type is another question."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        return any(all(_ORDERS[order](value, bound) for order, bound in way) for way in self.ways)


def range_of(text: str) -> Range:
    """The range of `> 0 and <= 1` or `>= 1 or -1`. Raises ValueError for anything else."""
    return Range(text, tuple(_way(part) for part in text.split(" or ")))


def _way(text: str) -> tuple[tuple[str, float], ...]:
    bounds = []
    for part in text.split(" and "):
        match = _BOUND.fullmatch(part)
        if match is None:
            raise ValueError(f"{text!r} is no range")
        bounds.append((match[1] or "=", float(match[2])))
    return tuple(bounds)
