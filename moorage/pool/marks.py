"""Curation marks: which may be set, and which steps a lease that asks for some hands out. Pure decisions.

A mark is a name and a JSON value. A lease asks for names and values, and gets the steps that have all of them. A step
without the mark `trainable` is trainable; null asks for steps that do not have the mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.errors import UsageError

__all__ = ["MARKS_BYTES", "MOST_MARKS", "check_marks", "is_marked", "merged"]

MOST_MARKS = 32
"""Of one step, and in one ask."""
MARKS_BYTES = 16384
"""All of them as JSON."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNMARKED = {"trainable": True}


def check_marks(marks: Mapping[str, Any]) -> None:
    """Raises UsageError `bad_marks` for names that are none, for too many or too big ones, and for what is no JSON."""
    for name in marks:
        if not _NAME.fullmatch(name):
            raise _bad(f"{name[:80]!r} is no mark's name: letters, digits and ._- , 1 to 64 of them")
    if len(marks) > MOST_MARKS:
        raise _bad(f"{len(marks)} marks: a step has at most {MOST_MARKS}")
    try:
        size = len(msgspec.json.encode(marks))
    except (OverflowError, TypeError, ValueError, RecursionError) as fault:
        raise _bad(f"a mark's value cannot be kept: {fault}") from None
    if size > MARKS_BYTES:
        raise _bad(f"the marks have {size} bytes as JSON; a step's have at most {MARKS_BYTES}")


def merged(marks: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a step has after `changes`, of which None takes a mark away. Raises UsageError `bad_marks`."""
    all_marks = {name: value for name, value in {**marks, **changes}.items() if value is not None}
    check_marks(all_marks)
    return all_marks


def is_marked(marks: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a step with these marks is handed out to who asks for those."""
    return all(
        _equal(marks.get(name, _UNMARKED.get(name) if value is not None else None), value)
        for name, value in asked.items()
    )


def _equal(a: Any, b: Any) -> bool:
    """As JSON values: true is not 1, and 1 is 1.0."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[name]) for name, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _bad(message: str) -> UsageError:
    return UsageError(message, code="bad_marks")
