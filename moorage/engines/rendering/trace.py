"""What one render does with the texts it is given: which it writes where, and which questions it asks of them.

A template is run over texts that remember what they are (`Told`). Written out, joined, trimmed or put into JSON, they
stay told texts; a question (does it hold `</think>`? how long is it?) is answered for the text at hand and noted. Any
other use ends the trace with Untraceable. So a finished trace holds for every text that gives the same answers: the
template would go the same way with it, and write it in the same places.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

__all__ = ["MARKER", "OPERATIONS", "Guard", "Sealed", "Step", "Told", "Trace", "Untraceable", "parsed_arguments"]

MARKER = "\ufddf\ufddb\ufddf"
"""What a told text says to code that reads it behind our back: no template writes it, so it would be seen."""

TEXT_METHODS = frozenset({"lower", "lstrip", "removeprefix", "removesuffix", "replace", "rstrip", "strip", "upper"})
"""They make a text of a text."""

ASKING_METHODS = frozenset({"count", "endswith", "find", "isdigit", "isspace", "startswith"})
"""They answer a question about a text."""


class Untraceable(Exception):
    """The template does with a text what only the text itself can tell."""


class Step(msgspec.Struct, frozen=True):
    """A value made from another one."""

    source: int
    operation: str
    arguments: tuple[Any, ...]


class Guard(msgspec.Struct, frozen=True):
    """A question about a value, and its answer."""

    source: int
    operation: str
    arguments: tuple[Any, ...]
    answer: Any


class Trace:
    """Of one render. Values are known by number: first those that are given, then those made from them."""

    def __init__(self, given: Iterable[Any]) -> None:
        """`given`: texts, none of them empty, or anything else that is only sealed or made into a text."""
        self.values: list[Any] = list(given)
        self.given = len(self.values)
        self.steps: list[Step] = []
        """Of the values after the given ones."""
        self.guards: list[Guard] = []

    def make(self, source: int, operation: str, *arguments: Any) -> int:
        """The number of a new value."""
        step = Step(source, operation, arguments)
        if step in self.steps:
            return self.given + self.steps.index(step)
        self.values.append(OPERATIONS[operation](self.values[source], *arguments))
        self.steps.append(step)
        return len(self.values) - 1

    def ask(self, source: int, operation: str, *arguments: Any) -> Any:
        """The answer for the value at hand."""
        answer = OPERATIONS[operation](self.values[source], *arguments)
        guard = Guard(source, operation, arguments, answer)
        if guard not in self.guards:
            self.guards.append(guard)
        return answer


class Told(str):
    """A text of which it is known what it is made of.

    The text itself is MARKER; every method of a text that is not written here is refused.
    """

    __slots__ = ("parts", "trace")
    parts: tuple[str | int, ...]
    """Literal texts and numbers of values, in order."""
    trace: Trace

    def __new__(cls, trace: Trace, parts: Iterable[str | int]) -> Told:
        told = super().__new__(cls, MARKER)
        told.trace = trace
        told.parts = tuple(parts)
        return told

    @property
    def number(self) -> int:
        """Of the value, if it is that and nothing else."""
        if len(self.parts) != 1 or not isinstance(self.parts[0], int):
            raise Untraceable("a joined text is read")
        return self.parts[0]

    def use(self, name: str, *arguments: Any) -> Any:
        """What `text.name(*arguments)` gives."""
        if not all(_is_plain(argument) for argument in arguments):
            raise Untraceable(f"{name} with another text")
        if name in TEXT_METHODS:
            return Told(self.trace, [self.trace.make(self.number, name, *arguments)])
        if name in ASKING_METHODS:
            return self.trace.ask(self.number, name, *arguments)
        if name == "split" and len(arguments) == 1 and arguments[0] and not self.holds(arguments[0]):
            return [self]
        raise Untraceable(name)

    def holds(self, text: str) -> bool:
        """Whether `text` is in it."""
        return bool(self.trace.ask(self.number, "holds", text))

    def equals(self, other: Any) -> bool:
        """Whether it is the same as a plain value."""
        if type(other) is not str:
            return False
        return bool(self.trace.ask(self.number, "equals", other)) if other else not self

    def length(self) -> int:
        """How many characters it has."""
        return int(self.trace.ask(self.number, "length"))

    def in_json(self, settings: Mapping[str, Any]) -> Told:
        """It as a JSON string."""
        return Told(self.trace, [self.trace.make(self.number, "json", tuple(settings.items()))])

    def __bool__(self) -> bool:
        if any(isinstance(part, str) and part for part in self.parts):
            return True
        if any(isinstance(part, int) and part < self.trace.given for part in self.parts):
            return True  # what is given is never empty
        return bool(self.trace.ask(self.number, "truth"))

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> Told:
        return _joined(self.trace, self, other)

    def __radd__(self, other: str) -> Told:
        return _joined(self.trace, other, self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Told):
            raise Untraceable("two texts are compared")
        return self.equals(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise Untraceable("a text is a key")


class Sealed:
    """A value that a template may write as JSON, and not look into."""

    __slots__ = ("number", "trace")

    def __init__(self, trace: Trace, number: int) -> None:
        self.trace, self.number = trace, number

    def in_json(self, settings: Mapping[str, Any]) -> Told:
        """Its JSON."""
        return Told(self.trace, [self.trace.make(self.number, "json", tuple(settings.items()))])

    def __bool__(self) -> bool:
        return bool(self.trace.ask(self.number, "truth"))

    def _refuse(self, *_: Any) -> Any:
        raise Untraceable("a sealed value is read")

    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __iter__ = __getitem__ = __contains__ = _refuse


def _joined(trace: Trace, *texts: Any) -> Told:
    parts: list[str | int] = []
    for text in texts:
        if not isinstance(text, str):
            raise Untraceable("a text is added to something else")
        parts += text.parts if isinstance(text, Told) else [text]
    return Told(trace, parts)


def _is_plain(argument: Any) -> bool:
    if isinstance(argument, tuple):
        return all(_is_plain(one) for one in argument)
    return argument is None or type(argument) in (str, int, bool)


def parsed_arguments(arguments: Any) -> dict[str, Any]:
    """The arguments of a tool's call as templates are given them."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return dict(arguments) if isinstance(arguments, Mapping) else {}


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise Untraceable(name)

    return refuse


for _name in dir(str):
    if _name not in Told.__dict__ and callable(getattr(str, _name)) and _name not in dir(object):
        setattr(Told, _name, _refusing(_name))
for _name in ("__repr__", "__format__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Told, _name, _refusing(_name))

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(str, name) for name in TEXT_METHODS | ASKING_METHODS},
    "arguments": parsed_arguments,
    "equals": lambda value, other: value == other,
    "holds": lambda value, other: other in value,
    "json": lambda value, settings: json.dumps(value, **dict(settings)),
    "length": len,
    "strftime": lambda now, form: now.strftime(form),
    "truth": bool,
}
"""What is done with values, all of it the same whenever it is done."""
