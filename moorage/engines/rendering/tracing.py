"""A chat template run over told texts: every place where Jinja could read one asks here first.

What compiled template code can do to a value goes through a filter, a test, a call, an attribute or item, a comparison,
an operator, a join, or Python's own hooks (truth, iteration, slices, `str`). `Told` has the hooks; the rest is below,
and refuses whatever it does not know.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import Environment
from jinja2.ext import Extension
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from moorage.engines.rendering.trace import MARKER, Sealed, Told, Untraceable

__all__ = ["TracedEnvironment", "parts_of"]

STRUCTURAL = frozenset({"count", "d", "default", "first", "items", "last", "length", "list"}) | frozenset(
    {"map", "reject", "rejectattr", "reverse", "select", "selectattr"}
)
"""Filters that look at how a list or an object is built, and pass on what is in it."""

KINDS = {
    **dict.fromkeys(("boolean", "callable", "float", "integer", "mapping", "none", "number", "undefined"), False),
    **dict.fromkeys(("defined", "iterable", "sequence", "string"), True),
}
"""Tests of what kind of value something is, answered for texts."""

SEALED_KINDS = {**KINDS, "mapping": True, "string": False}

LOOKS = frozenset({"get", "items", "keys", "values"})
"""Methods of an object that do not look into its values."""

COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}

OWN_KWARGS = ("_loop_vars", "_block_vars")
"""What compiled code passes on to functions that ask for it."""


def parts_of(text: str) -> tuple[str | int, ...]:
    """What a rendered text is made of: literal texts and numbers of values."""
    parts: list[str | int] = []
    for part in text.parts if isinstance(text, Told) else (text,):
        if isinstance(part, str) and MARKER in part:
            raise Untraceable("a text was read unseen")
        if parts and isinstance(part, str) and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return tuple(parts)


class _Generator(CodeGenerator):
    """Writes the operations that Jinja compiles to plain Python as calls of the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for one in node.nodes:
            self.write("str(")
            self.visit(one, frame)
            self.write("), ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        if len(node.ops) != 1:
            raise Untraceable("a chain of comparisons")
        self.write("environment.compared(")
        self.visit(node.expr, frame)
        self.write(f", {node.ops[0].op!r}, ")
        self.visit(node.ops[0].expr, frame)
        self.write(")")

    def visit_EvalContextModifier(self, *_: Any) -> None:
        raise Untraceable("it changes how texts are escaped")

    def visit_ScopedEvalContextModifier(self, *_: Any) -> None:
        raise Untraceable("it changes how texts are escaped")


class TracedEnvironment(ImmutableSandboxedEnvironment):
    """Like the environment it is made from, for told texts. Its renders may raise Untraceable."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)
    intercepted_unops = frozenset(ImmutableSandboxedEnvironment.default_unop_table)

    def __init__(self, like: Environment) -> None:
        super().__init__(
            trim_blocks=like.trim_blocks,
            lstrip_blocks=like.lstrip_blocks,
            extensions=list(map(type, _extensions(like))),
        )
        self.globals.update(like.globals)
        self.filters = {name: _guarded_filter(name, one) for name, one in like.filters.items()}
        self.tests = {name: _guarded_test(name, one, self) for name, one in like.tests.items()}

    @staticmethod
    def concat(texts: Iterable[str]) -> str:
        """As `"".join`."""
        several = list(texts)
        told = next((one for one in several if isinstance(one, Told)), None)
        if told is None:
            return "".join(several)
        return Told(told.trace, [part for one in several for part in (one.parts if isinstance(one, Told) else (one,))])

    def compared(self, left: Any, comparison: str, right: Any) -> Any:
        """`left` and `right`, compared as Jinja's `comparison` does."""
        if not _holds(left) and not _holds(right):
            return COMPARISONS[comparison](left, right)
        if comparison in ("eq", "ne"):
            return _equal(left, right) is (comparison == "eq")
        if comparison in ("in", "notin") and type(left) is str:
            if isinstance(right, Told):
                return right.holds(left) is (comparison == "in")
            if isinstance(right, dict | list | tuple):  # `Told` answers for itself
                return (left in right) is (comparison == "in")
        raise Untraceable(f"a text is compared: {comparison}")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator != "+" and (_holds(left) or _holds(right)):
            raise Untraceable(f"a text is an operand of {operator}")
        return super().call_binop(context, operator, left, right)

    def call_unop(self, context: Any, operator: str, arg: Any) -> Any:
        if _holds(arg):
            raise Untraceable(f"a text is an operand of {operator}")
        return super().call_unop(context, operator, arg)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Told):
            return _Method(obj, attribute)
        if isinstance(obj, Sealed):
            raise Untraceable("a sealed value is read")
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Told | Sealed) or _holds(argument):
            raise Untraceable("a part of a text is read")
        return super().getitem(obj, argument)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in kwargs.items() if name not in OWN_KWARGS}
        if isinstance(__obj, _Method):
            if given:
                raise Untraceable("a text's method with named arguments")
            return __obj.told.use(__obj.name, *args)
        passes_on = isinstance(__obj, Macro) or __obj is Namespace or __obj is dict
        if not passes_on and not _is_safe(__obj, args, given):
            raise Untraceable("a function is given a text")
        return super().call(__context, __obj, *args, **kwargs)


class _Method:
    """A method of a told text, before it is called."""

    __slots__ = ("name", "told")

    def __init__(self, told: Told, name: str) -> None:
        self.told, self.name = told, name

    def _refuse(self, *_: Any) -> Any:
        raise Untraceable("a text's method is no value")

    __bool__ = __str__ = __repr__ = __eq__ = __hash__ = __iter__ = __len__ = __call__ = _refuse


def _extensions(environment: Environment) -> list[Extension]:
    return list(environment.extensions.values())


def _is_safe(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, Extension):
        return not args and all(isinstance(one, Macro) for one in kwargs.values())
    if _holds(list(args)) or _holds(kwargs):
        return False
    if owner is None or isinstance(owner, ModuleType | LoopContext | Environment):
        return True
    return not _holds(owner) or (isinstance(owner, dict) and getattr(function, "__name__", "") in LOOKS)


def _holds(value: Any) -> bool:
    """Whether there may be a told text in it; a value of a kind that is not known here may hide one."""
    if isinstance(value, Told):
        return True
    if value is None or isinstance(value, str | int | float | Undefined):
        return False
    if isinstance(value, list | tuple):
        return any(map(_holds, value))
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    return True


def _equal(left: Any, right: Any) -> bool:
    if left is right and isinstance(left, dict | list):
        return True
    if isinstance(left, Told) and not _holds(right):
        return left.equals(right)
    if isinstance(right, Told) and not _holds(left):
        return right.equals(left)
    raise Untraceable("what holds a text is compared")


def _guarded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    passed = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        own = args[passed:]
        if not any(map(_holds, own)) and not any(map(_holds, kwargs.values())):
            return function(*args, **kwargs)
        value, *others = own or (None,)
        if any(map(_holds, others)) or any(map(_holds, kwargs.values())):
            raise Untraceable(f"a text is an argument of {name}")
        if name == "tojson":
            return _in_json(function, value, *others, **kwargs)
        if isinstance(value, Told):
            return _filtered(value, name, *others, **kwargs)
        if isinstance(value, Sealed) or name not in STRUCTURAL:
            raise Untraceable(name)
        return function(*args, **kwargs)

    return guarded


def _filtered(told: Told, name: str, *others: Any, **kwargs: Any) -> Any:
    if name == "trim" and not kwargs:
        return told.use("strip", *others)
    if name in ("upper", "lower", "replace") and not kwargs:
        return told.use(name, *others)
    if name in ("string", "default", "d"):
        if not told and name != "string":
            raise Untraceable("an empty text has a default")
        return told
    if name in ("length", "count"):
        return told.length()
    raise Untraceable(name)


def _in_json(function: Callable[..., Any], value: Any, *others: Any, **kwargs: Any) -> Any:
    """The JSON of a value in which there are told texts, by `function`, which is `tojson`."""
    if others:
        raise Untraceable("tojson by place")
    trace_of: list[Told | Sealed] = []
    marked = _with_leaves(value, trace_of)
    text: str = function(marked, **kwargs)
    settings = {"ensure_ascii": False, **kwargs}
    parts: list[str | int] = []
    for place, leaf in enumerate(trace_of):
        name = json.dumps(_leaf_name(place))
        if text.count(name) != 1 or (isinstance(leaf, Sealed) and settings.get("indent") is not None):
            raise Untraceable("a text in JSON")
        before, text = text.split(name)
        parts += [before, *leaf.in_json(settings).parts]
    return Told(trace_of[0].trace, [*parts, text])


def _with_leaves(value: Any, leaves: list[Told | Sealed]) -> Any:
    if isinstance(value, Told | Sealed):
        leaves.append(value)
        return _leaf_name(len(leaves) - 1)
    if isinstance(value, list | tuple):
        return [_with_leaves(one, leaves) for one in value]
    if isinstance(value, dict):
        return {key: _with_leaves(one, leaves) for key, one in value.items()}
    if _holds(value):
        raise Untraceable("tojson of an unknown value")
    return value


def _leaf_name(place: int) -> str:
    return f"Zqleaf{place}xqZ"


def _guarded_test(name: str, function: Any, environment: TracedEnvironment) -> Callable[..., Any]:
    passed = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[passed:]
        if not any(map(_holds, (value, *others))):
            return function(*args, **kwargs)
        if kwargs or (others and (len(others) != 1 or name not in _COMPARING)):
            raise Untraceable(f"test {name}")
        if others:
            return environment.compared(value, _COMPARING[name], others[0])
        if isinstance(value, Told | Sealed):
            kinds = KINDS if isinstance(value, Told) else SEALED_KINDS
            if name not in kinds:
                raise Untraceable(f"test {name}")
            return kinds[name]
        if name not in KINDS:
            raise Untraceable(f"test {name}")
        return function(*args, **kwargs)

    return guarded


_COMPARING = {"eq": "eq", "equalto": "eq", "==": "eq", "ne": "ne", "!=": "ne", "in": "in"}
