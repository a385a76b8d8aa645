"""Which `engine_kwargs` a user may give, of which types and sizes: `references/engine_kwargs.yaml` as a value.

The names and types there are those of the engine's own argument classes, so that neither this package nor the API's
server needs an engine; `kwargs_reference` makes and checks them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from moorage.serving.spec.argument_types import ArgumentType, shown, type_of
from moorage.serving.spec.faults import Fault, pointer
from moorage.serving.spec.value_ranges import Range, range_of

__all__ = [
    "FILE",
    "KwargTable",
    "command_line_faults",
    "kwarg_faults",
    "load_kwargs",
    "platform_kwarg_faults",
    "table_of",
]

FILE = "references/engine_kwargs.yaml"
UNSEEN = "nobody has looked yet at what it would allow"
_NAME = re.compile(r"(?![-~]|\.\.)[^/\\\x00-\x1f\x7f]*")
"""No text that users may give names a file, also not for engines that would take a path where they ask for a name."""
_IDENTITY = frozenset({"model", "served_model_name"})
_SUGGESTED_FOR = 20
"""So many unknown names get a guess at what was meant; it is slow for thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KwargTable:
    """What the engine takes, and what of that a user may set."""

    engine: str
    """The engine and its version, for instance `vllm 0.32.0`."""
    types: Mapping[str, ArgumentType]
    """Of every argument, allowed or not."""
    allowed: Mapping[str, ArgumentType]
    ranges: Mapping[str, Range] = field(default_factory=lambda: MappingProxyType({}))
    denied: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Name → the reason."""
    no_flag: frozenset[str] = frozenset()
    """Arguments that the engine's command line does not have."""
    only_true: frozenset[str] = frozenset()
    """Those whose flag says true, and that are false without it."""
    never_empty: frozenset[str] = frozenset()
    """Lists that a command line cannot make empty."""
    never_null: frozenset[str] = frozenset()
    """Those that are not null without a flag, and that no flag makes so."""


def load_kwargs(bundle: Path) -> KwargTable:
    """The table of the bundle at `bundle`. Raises UsageError when the file is not there or malformed."""
    from moorage.catalog.bundle import read_yaml

    return table_of(read_yaml(bundle / FILE))


def table_of(data: Mapping[str, Any]) -> KwargTable:
    """The table that the file's values say. Raises KeyError or ValueError for values that are no table."""
    denied = {name: group["reason"] for group in data["denied"].values() for name in group["names"]}
    types = {**data["arguments"], **data["narrowed"]}
    # What a newer engine brought and nobody has looked at is refused.
    denied = {name: denied.get(name, UNSEEN) for name in types if name not in data["allowed"]} | denied
    allowed = {name: type_of(types[name]) for name in data["allowed"]}
    ranges = {name: range_of(text) for name, text in data["ranges"].items()}
    line = data.get("command_line") or {}
    return KwargTable(
        engine=data["engine"],
        types=MappingProxyType({name: type_of(text) for name, text in data["arguments"].items()}),
        allowed=MappingProxyType(allowed),
        ranges=MappingProxyType(ranges),
        denied=MappingProxyType(denied),
        **{what: frozenset(line.get(what) or ()) for what in ("no_flag", "only_true", "never_empty", "never_null")},
    )


def kwarg_faults(kwargs: Mapping[str, Any], table: KwargTable) -> Iterator[Fault]:
    """Every name that is unknown or denied, and every value of a wrong type or size."""
    guessed = 0
    for name, value in kwargs.items():
        place = pointer(("engine_kwargs", name))
        if name in table.denied:
            yield Fault(
                pointer=place,
                detail=f"engine_kwargs.{name} may not be set: {table.denied[name]}",
                code="engine_kwarg_denied",
            )
        elif name not in table.allowed:
            guessed += 1
            yield _unknown(name, place, table, guess=guessed <= _SUGGESTED_FOR)
        else:
            yield from _value_faults(name, value, place, table.allowed[name], table)


def platform_kwarg_faults(kwargs: Mapping[str, Any], table: KwargTable) -> Iterator[Fault]:
    """What is wrong with the defaults in the platform's own configuration: they may set what users may not, but a name
    or a type that the engine does not know would have every model fail."""
    for name, value in kwargs.items():
        place = pointer(("serving", "llm", "engine_kwargs", name))
        if name in _IDENTITY:
            yield Fault(pointer=place, detail=f"{name} is set for every model by itself", code="engine_kwarg_denied")
        elif name not in table.types:
            yield _unknown(name, place, table, guess=True)
        else:
            yield from _value_faults(name, value, place, table.types[name], table)


def command_line_faults(kwargs: Mapping[str, Any], table: KwargTable) -> Iterator[Fault]:
    """What cannot be said where engines are started by a command line; names that are unknown are passed over."""
    for name, value in kwargs.items():
        why = ""
        if name in table.no_flag:
            why = f"engine_kwargs.{name} has no flag, and this platform starts engines by a command line"
        elif name in table.never_empty and value in ([], ()):
            why = f"engine_kwargs.{name} cannot be empty here: the engine's command line has no word for that"
        elif name in table.never_null and value is None:
            why = f"engine_kwargs.{name} cannot be null here: the engine's command line has no word for that"
        if why:
            yield Fault(
                pointer=pointer(("engine_kwargs", name)), detail=why, code="engine_kwarg_no_flag", hint="leave it out"
            )


def _unknown(name: str, place: str, table: KwargTable, *, guess: bool) -> Fault:
    plain = name.lower().replace("-", "_")[:64]
    near = difflib.get_close_matches(plain, table.allowed, n=1, cutoff=0.8) if guess else []
    return Fault(
        pointer=place,
        detail=f"{shown(name)} is no argument of {table.engine}",
        code="engine_kwarg_unknown",
        hint=f"did you mean {near[0]}?" if near else "",
    )


def _value_faults(name: str, value: Any, place: str, wanted: ArgumentType, table: KwargTable) -> Iterator[Fault]:
    if not wanted.takes(value):
        detail = f"engine_kwargs.{name} must be {wanted.text}, and {shown(value)} is not"
        yield Fault(pointer=place, detail=detail, code="wrong_type")
        return
    if name in table.allowed and not _names_nothing_else(value):
        detail = f"engine_kwargs.{name} must be a name, and {shown(value)} looks like a path or an option"
        yield Fault(pointer=place, detail=detail, code="engine_kwarg_no_name")
        return
    span = table.ranges.get(name)
    if span is not None and not span.holds(value):
        detail = f"engine_kwargs.{name} must be {span.text}, and {shown(value)} is not"
        yield Fault(pointer=place, detail=detail, code="out_of_range")


def _names_nothing_else(value: Any) -> bool:
    """Whether text is a name, and a list holds nothing that a command line would take for an option."""
    if isinstance(value, list):
        return not any(isinstance(item, str) and item.startswith("-") for item in value)
    return not isinstance(value, str) or _NAME.fullmatch(value) is not None
