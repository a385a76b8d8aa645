"""Types of engine arguments, written as Python writes them: `int | None`, `list[str]`, `Literal['auto', 'half']`. Pure.

Values are what JSON has: a set is given as a list, a whole number is a float too and has at most 64 bits, and true is
no number.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["ArgumentType", "shown", "type_of"]

MOST_SHOWN = 80

Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class ArgumentType:
    """A type and its test."""

    text: str
    """For people: `a whole number, or null`."""
    takes: Check
    """Whether a value is of it."""


def type_of(text: str) -> ArgumentType:
    """Raises ValueError for what is none of the types that are known here."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as problem:
        raise ValueError(f"{text!r} is no type: {problem.msg}") from None
    return ArgumentType(*_read(tree))


def shown(value: object) -> str:
    """A value for a message: as JSON, and not long."""
    text = json.dumps(value, ensure_ascii=False, default=lambda other: str(getattr(other, "text", other)))
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def _read(node: ast.expr) -> tuple[str, Check]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _either(_read(node.left), _read(node.right))
    if isinstance(node, ast.Constant) and node.value is None:
        return "null", lambda value: value is None
    if isinstance(node, ast.Name) and node.id in _PLAIN:
        return _PLAIN[node.id]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return _of(node.value.id, node.slice)
    raise ValueError(f"{ast.unparse(node)!r} is no type that is known here")


def _of(name: str, inside: ast.expr) -> tuple[str, Check]:
    if name == "Literal":
        return _literal(inside)
    if name == "list":
        text, takes = _read(inside)
        return f"a list of {text}", lambda value: isinstance(value, list) and all(map(takes, value))
    if name == "dict":
        text, takes = _read(inside)
        return f"a mapping to {text}", lambda value: _is_mapping(value) and all(map(takes, value.values()))
    raise ValueError(f"{name!r} is no type that is known here")


def _either(one: tuple[str, Check], other: tuple[str, Check]) -> tuple[str, Check]:
    return f"{one[0]} or {other[0]}", lambda value: one[1](value) or other[1](value)


def _literal(inside: ast.expr) -> tuple[str, Check]:
    choices = ast.literal_eval(inside)
    choices = choices if isinstance(choices, tuple) else (choices,)

    def takes(value: Any) -> bool:
        # 1 == True == 1.0, and they are not the same to an engine.
        return any(type(value) is type(choice) and value == choice for choice in choices)

    return f"one of {', '.join(map(str, choices))}", takes


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_text(value: Any) -> bool:
    """NUL can neither be stored everywhere nor stand on a command line."""
    return isinstance(value, str) and "\0" not in value


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


def _is_any(value: Any) -> bool:
    """Whether every text in it is one, and every whole number has at most 64 bits: longer ones cannot be stored."""
    if isinstance(value, Mapping):
        return _is_mapping(value) and all(map(_is_any, value.values()))
    if isinstance(value, list):
        return all(map(_is_any, value))
    if isinstance(value, str):
        return _is_text(value)
    return isinstance(value, bool) or not isinstance(value, int) or _is_int(value)


_PLAIN: Mapping[str, tuple[str, Check]] = MappingProxyType(
    {
        "bool": ("true or false", lambda value: isinstance(value, bool)),
        "int": ("a whole number", _is_int),
        "float": ("a number", lambda value: isinstance(value, float) or _is_int(value)),
        "str": ("text", _is_text),
        "dict": ("a mapping", lambda value: _is_mapping(value) and _is_any(value)),
        "list": ("a list", lambda value: isinstance(value, list) and _is_any(value)),
        "object": ("any value, with whole numbers of at most 64 bits and no NUL", _is_any),
    }
)
