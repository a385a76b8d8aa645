"""Sampling fields: which ones an arch takes, their defaults, and whether values are in range.

Values are used as they are given or refused; nothing is rounded or clamped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from moorage.errors import UsageError

if TYPE_CHECKING:
    from moorage.catalog.catalog import Catalog
    from moorage.catalog.shapes import SamplingField

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_TYPE_WORDS = {"integer": "a whole number", "number": "a number", "string": "text"}


def fields_of(catalog: Catalog, arch: str) -> dict[str, SamplingField]:
    """Field → what the arch says of it: the base fields without those it does not take, then its own."""
    return catalog.sampling_fields(arch)


def known_fields(catalog: Catalog) -> set[str]:
    """Every field that the reference knows, of any arch. All others are the server's business."""
    known = set(catalog.request.chat_completions_request_body.fields)
    for rules in catalog.request.network_arch_constraints.values():
        known |= set(rules.fields)
    return known


def defaults(catalog: Catalog, arch: str) -> dict[str, int | float | str]:
    """Field → default, of those that have one."""
    found = ((name, field.default) for name, field in fields_of(catalog, arch).items())
    return {name: default for name, default in found if default is not None}


def missing_flags(catalog: Catalog, arch: str, values: Mapping[str, object]) -> list[str]:
    """The flags of the fields that have a default and were not given. Fields without one may stay away."""
    fields = fields_of(catalog, arch)
    return [fields[name].flag for name in defaults(catalog, arch) if name not in values]


def check_values(catalog: Catalog, arch: str, values: Mapping[str, object]) -> None:
    """Raises UsageError with every fault at once, in `data["faults"]`.

    The code is `unsupported_field` when the arch does not take one of the fields, else `bad_value`. Fields that no arch
    knows are not looked at.
    """
    faults = list(_faults(catalog, arch, values))
    if not faults:
        return
    unsupported = any(fault["code"] == "unsupported_field" for fault in faults)
    raise UsageError(
        "; ".join(fault["message"] for fault in faults),
        code="unsupported_field" if unsupported else "bad_value",
        hint="; ".join(fault["hint"] for fault in faults),
        data={"faults": faults},
    )


def parse_field(field: SamplingField, text: str) -> int | float | str:
    """The value that a flag's text stands for, not yet checked for its range. Raises UsageError naming the flag."""
    if field.type == "string":
        return text
    stripped = text.strip()
    pattern = _INTEGER if field.type == "integer" else _NUMBER
    if not pattern.fullmatch(stripped):
        raise UsageError(
            f"{field.flag} is {text[:60]!r}, which is not {_TYPE_WORDS[field.type]}",
            code="bad_value",
            hint=f"give {field.flag} {range_words(field)}",
        )
    return int(stripped) if field.type == "integer" else float(stripped)


def in_range(field: SamplingField, value: float) -> bool:
    """Whether a number is in the field's range. Not a number never is."""
    if field.minimum is not None and not value >= field.minimum:
        return False
    if field.exclusive_minimum is not None and not value > field.exclusive_minimum:
        return False
    return value == value and (field.maximum is None or value <= field.maximum)


def _faults(catalog: Catalog, arch: str, values: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    fields = fields_of(catalog, arch)
    known = known_fields(catalog)
    for name, value in values.items():
        if name in fields:
            reason = _reason(fields[name], value)
            if reason is not None:
                hint = f"give {name} {range_words(fields[name])}"
                yield {"field": name, "code": "bad_value", "message": f"{name} {reason}", "hint": hint}
        elif name in known:
            takers = _takers(catalog, name)
            message = f"arch {arch} does not take {name}; archs that do: {takers}"
            hint = f"leave {name} away, or ask a service of {takers}"
            yield {"field": name, "code": "unsupported_field", "message": message, "hint": hint}


def _reason(field: SamplingField, value: object) -> str | None:
    """Why the value is refused, as the end of a sentence; None when it is good."""
    if field.type == "string":
        return None if isinstance(value, str) else f"must be text, not {_kind(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be {_TYPE_WORDS[field.type]}, not {_kind(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which is no finite number"
    if field.type == "integer" and isinstance(value, float):
        return f"is {value}, which is not written as a whole number"
    return None if in_range(field, value) else f"is {_number(value)}, outside its range: {range_words(field)}"


def range_words(field: SamplingField) -> str:
    words = [_TYPE_WORDS[field.type]]
    if field.minimum is not None:
        words.append(f"of at least {field.minimum:g}")
    if field.exclusive_minimum is not None:
        words.append(f"above {field.exclusive_minimum:g}")
    if field.maximum is not None:
        words.append(f"and at most {field.maximum:g}" if len(words) > 1 else f"of at most {field.maximum:g}")
    return " ".join(words)


def _takers(catalog: Catalog, name: str) -> str:
    archs = catalog.request.network_arch_constraints
    return ", ".join(arch for arch in archs if name in fields_of(catalog, arch)) or "none"


def _number(value: float) -> str:
    """Short enough for a message: a body may hold an integer of any length."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of more than 38 digits"
    return str(value)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    words = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return words.get(type(value), type(value).__name__)
