"""Words without quotes in YAML and numbers in JSON: what they mean, and where they mean nothing clear. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["Unclear", "float_of", "int_of", "plain_scalar"]

MOST_DIGITS = 4000
"""Of a whole number: no field takes as many, and Python refuses to read longer ones."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """What stands for no value: `check_spec` refuses it with its place.

    Such are words without quotes that YAML 1.1 and 1.2 read differently (`no`, `012`, `1_000`, `12:30`, `1e3`, a date),
    and numbers that are none or too large.
    """

    text: str
    why: str = "without quotes means different things in YAML 1.1 and 1.2"


def plain_scalar(text: str) -> Any:
    """The value of a scalar without quotes."""
    if not text:
        return None
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int_of(text)
    if _FLOAT.fullmatch(text):
        return float_of(text)
    if _NO_NUMBER.fullmatch(text):
        return Unclear(text, "is no finite number")
    return Unclear(text) if _UNCLEAR.fullmatch(text) else text


def int_of(text: str) -> int | Unclear:
    """Of decimal digits and a sign."""
    return int(text) if len(text) <= MOST_DIGITS else Unclear(text, "has too many digits")


def float_of(text: str) -> float | Unclear:
    """Of a number with a point or an exponent."""
    value = float(text)
    return value if math.isfinite(value) else Unclear(text, "is too large")


_WORDS: Mapping[str, Any] = MappingProxyType(
    {
        **dict.fromkeys(("~", "null", "Null", "NULL"), None),
        **dict.fromkeys(("true", "True", "TRUE"), True),
        **dict.fromkeys(("false", "False", "FALSE"), False),
    }
)
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)\.[0-9]*([eE][-+][0-9]+)?|\.[0-9]+([eE][-+][0-9]+)?)")
_UNCLEAR = re.compile(
    r"""yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|=|<<
    |[-+]?[0-9][0-9_]*                                      # 012, 1_000
    |[-+]?0[box][0-9a-fA-F_]+                               # 0x1f, 0o17
    |[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?           # 12:30 is 750
    |[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)([eE][-+]?[0-9]+)?
    |[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\ ].*)?              # a date
    """,
    re.VERBOSE,
)
