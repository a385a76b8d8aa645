"""The versions of a reward, kept as marks of the step that has it. Pure.

A reward that is set again is another version; none is ever overwritten. Each is a mark of its own, so two writers never
lose each other's:

    reward.first                 what the step had before anything was noted
    reward.<id>                  {"reward": 1.0, "by": "computed", "function": "exact", "at": 1760000000.0, …}
    reward                       the newest of the step itself: a number, for whoever reads marks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from moorage.errors import ConflictError

__all__ = ["FIRST_MARK", "Given", "Of", "Version", "is_news", "marks_for", "versions_in"]

MOST_VERSIONS = 20
"""Of one step; the marks of a step have their limit, too."""
INFO_BYTES = 400
"""Of extra info that are kept; the reply has all of it."""

NOW = "reward"
PREFIX = "reward."
FIRST_MARK = "reward.first"

Of = Literal["trajectory", "step"]
By = Literal["given", "computed", "completed", "submitted"]
"""Set by hand; by a function; by completion; with the step itself."""


class Given(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reward as it was set."""

    reward: float
    by: By
    at: float
    """Unix seconds."""
    of: Of
    function: str | None = None
    function_version: str | None = None
    info: dict[str, Any] = {}


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A reward among those before and after it, counted from 1."""

    version: int
    given: Given


def versions_in(marks: Mapping[str, Any], of: Of, first: Given | None) -> list[Version]:
    """Oldest first. `first`: what the store knows where nothing was noted yet; None: no reward."""
    found = [(value, name) for name, mark in marks.items() if (value := _read(name, mark)) is not None]
    found = sorted(((given, name) for given, name in found if given.of == of), key=_order)
    ordered = [given for given, _ in found]
    if not ordered and first is not None:
        ordered = [first]
    return [Version(version=number, given=given) for number, given in enumerate(ordered, 1)]


def is_news(given: Given, before: Sequence[Version]) -> bool:
    """Whether it says anything that the last version does not: the same again is a repeated request."""
    if not before:
        return True
    last = before[-1].given
    return (last.reward, last.function, last.function_version, last.info) != (
        *(given.reward, given.function, given.function_version),
        _kept(given.info),
    )


def marks_for(given: Given, id: str, marks: Mapping[str, Any], first: Given | None) -> dict[str, Any]:
    """What to mark so that `given` is the newest version. Raises ConflictError when there are too many already."""
    kept = [name for name in marks if name.startswith(PREFIX)]
    if len(kept) >= MOST_VERSIONS:
        raise ConflictError(
            f"the step has {len(kept)} versions of its reward, and no more are kept", code="reward_versions_full"
        )
    noted: dict[str, Any] = {f"{PREFIX}{id}": _mark(given)}
    if first is not None and FIRST_MARK not in marks:
        noted[FIRST_MARK] = _mark(first)
    if given.of == "step":
        noted[NOW] = given.reward
    return noted


def _mark(given: Given) -> dict[str, Any]:
    mark: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(given, info=_kept(given.info)))
    return mark


def _kept(info: dict[str, Any]) -> dict[str, Any]:
    size = len(msgspec.json.encode(info))
    return info if size <= INFO_BYTES else {"left_out_bytes": size}


def _read(name: str, mark: Any) -> Given | None:
    """None for marks of others."""
    if not name.startswith(PREFIX):
        return None
    try:
        return msgspec.convert(mark, Given)
    except msgspec.ValidationError:
        return None


def _order(one: tuple[Given, str]) -> tuple[bool, float, str]:
    given, name = one
    return (name != FIRST_MARK, given.at, name)
