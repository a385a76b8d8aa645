"""A function from where it stands, with its options: what a worker does first, and how functions are described."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from moorage.errors import FailedError, UsageError
from moorage.rewards.sample import RewardFunction

__all__ = ["Described", "Loaded", "Option", "describe", "load"]


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a function. `default` only counts where it is not `required`."""

    name: str
    type: str
    required: bool
    default: Any = None


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a function says of itself."""

    summary: str
    version: str | None
    """None: it has none."""
    options: list[Option]


class Loaded(msgspec.Struct, frozen=True):
    """A function ready to be called. `lanes`: how many samples one process takes at once."""

    call: RewardFunction
    version: str | None
    lanes: int


def load(target: str, options: Mapping[str, Any]) -> Loaded:
    """Raises UsageError for options, FailedError for what cannot be loaded, and what the function itself raises."""
    found = _resolve(target)
    if not inspect.isclass(found):
        if options:
            raise UsageError(f"{target} takes no options: {', '.join(sorted(options))}", code="reward_options")
        call = found
    else:
        call = _made(found, options)
    return Loaded(call, _version(found), _lanes(found))


def describe(target: str) -> Described:
    """Raises FailedError for what cannot be loaded."""
    found = _resolve(target)
    return Described(summary=_summary(found), version=_version(found), options=_options(found))


def _resolve(target: str) -> Callable[..., Any]:
    name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(name)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as fault:
        message = f"{target} cannot be loaded: {type(fault).__name__}: {fault}"
        raise FailedError(message[:500], code="reward_unloadable") from None
    if not callable(found):
        raise FailedError(f"{target} cannot be called", code="reward_unloadable")
    return found  # type: ignore[no-any-return]


def _made(kind: type[Any], options: Mapping[str, Any]) -> RewardFunction:
    names = [option.name for option in _options(kind)]
    for name in options:
        if name not in names:
            listed = ", ".join(names) or "none"
            raise UsageError(f"there is no option {name!r}: there are {listed}", code="reward_options")
    missing = [option.name for option in _options(kind) if option.required and option.name not in options]
    if missing:
        raise UsageError(f"the option {missing[0]} is missing", code="reward_options")
    if not dataclasses.is_dataclass(kind):
        made: RewardFunction = kind(**options)
        return made
    try:
        converted: Any = msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as fault:
        # What __post_init__ raised, when it is a fault of ours, says more.
        if isinstance(fault.__cause__, UsageError):
            raise fault.__cause__ from None
        raise UsageError(f"the options are wrong: {fault}", code="reward_options") from None
    return converted  # type: ignore[no-any-return]


def _options(found: Any) -> list[Option]:
    if not inspect.isclass(found):
        return []
    try:
        parameters = inspect.signature(found, eval_str=True).parameters.values()
    except (TypeError, ValueError, NameError):
        return []
    return [
        Option(
            name=one.name,
            type=_type(one.annotation),
            required=one.default is one.empty,
            default=None if one.default is one.empty else one.default,
        )
        for one in parameters
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]


def _type(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "any"
    if get_origin(annotation) is Literal:
        return "|".join(str(one) for one in get_args(annotation))
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("typing.", "")


def _summary(found: Any) -> str:
    return (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ")[:200]


def _version(found: Any) -> str | None:
    version = getattr(found, "version", None)
    return str(version)[:64] if isinstance(version, str | int | float) else None


def _lanes(found: Any) -> int:
    lanes = getattr(found, "lanes", 1)
    return lanes if isinstance(lanes, int) and 1 <= lanes <= 256 else 1
