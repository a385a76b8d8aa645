"""Numbers as people and models write them, read exactly. Pure.

1,234.5   1 234   -2e3   3/4   1 3/4   50%   $12   12 km   \\frac{3}{4}
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["Number", "last_number", "read_number"]

MOST_DIGITS = 400
"""Longer ones are no answer, and cost too much to compute with."""

_GROUPED = r"\d{1,3}(?:[, _\u00a0\u2009\u202f']\d{3})+(?!\d)"
_DECIMAL = rf"(?:{_GROUPED}|\d+)(?:\.\d*)?|\.\d+"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+])?\s?(?:[$€£¥]\s?)?
    (?:\\[dt]?frac\{{(?P<latex_top>\d+)\}}\{{(?P<latex_bottom>\d+)\}}
      |(?:(?P<whole>\d+)[ ])?(?P<top>\d+)\s?/\s?(?P<bottom>\d+)(?![\d.])
      |(?P<decimal>{_DECIMAL})(?:[eE](?P<power>[-+]?\d{{1,4}})(?!\d))?)
    (?P<percent>\s?\\?%)?""",
    re.VERBOSE,
)
_GROUPING = str.maketrans("", "", ", _\u00a0\u2009\u202f'")
_DASHES = str.maketrans({"\u2212": "-", "\u2013": "-", "\uff0d": "-", "\uff0b": "+", "\u2044": "/"})
_UNIT = re.compile(r"(?:\s?[^\W\d_]+(?:/[^\W\d_]+)?\.?|\s?°[CF]?)?[.!]?")
"""What may follow a number: a unit, a full stop."""


class Number:
    """A number and whether it was written as a percentage (50% is worth 1/2)."""

    __slots__ = ("is_percent", "value")

    def __init__(self, value: Fraction, *, is_percent: bool = False) -> None:
        self.value = value
        self.is_percent = is_percent


def read_number(text: str) -> Number | None:
    """The number that the whole text is, a currency before it and a unit behind it apart; None: it is none."""
    text = text.translate(_DASHES).strip().strip("$").strip()
    found = _NUMBER.match(text)
    if found is None or not _UNIT.fullmatch(text, found.end()):
        return None
    return _number(found)


def last_number(text: str) -> Number | None:
    """The last number in a text; None: there is none. A dash between digits or letters is no minus."""
    last = None
    for found in _NUMBER.finditer(text.translate(_DASHES)):
        last = found
    if last is None:
        return None
    before = text[last.start() - 1 : last.start()]
    return _number(last, unsigned=last["sign"] is not None and (before.isalnum() or before in ("_", ")")))


def _number(found: re.Match[str], *, unsigned: bool = False) -> Number | None:
    if len(found[0]) > MOST_DIGITS:
        return None
    value = _value(found)
    if value is None:
        return None
    percent = found["percent"] is not None
    if found["sign"] == "-" and not unsigned:
        value = -value
    return Number(value / 100 if percent else value, is_percent=percent)


def _value(found: re.Match[str]) -> Fraction | None:
    if found["decimal"] is not None:
        power = int(found["power"] or 0)
        if abs(power) > MOST_DIGITS:
            return None
        return Fraction(found["decimal"].translate(_GROUPING).rstrip(".")) * Fraction(10) ** power
    top, bottom = found["latex_top"] or found["top"], int(found["latex_bottom"] or found["bottom"])
    if bottom == 0:
        return None
    return Fraction(int(found["whole"] or 0)) + Fraction(int(top), bottom)
