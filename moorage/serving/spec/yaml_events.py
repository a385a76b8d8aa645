"""One YAML document from its events, without recursion, refusing whatever could hide, expand or run something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from moorage.serving.spec.faults import SpecError
from moorage.serving.spec.scalars import plain_scalar

__all__ = ["read_yaml"]


def read_yaml(text: str, deepest: int) -> Any:
    """The value of the one document in `text`; `deepest`: so many collections inside each other. Raises SpecError."""
    builder = _Builder(deepest=deepest)
    for event in _events(text):
        builder.take(event)
    return builder.value


@dataclass(slots=True)
class _Open:
    """A mapping or a list that is not at its end yet."""

    value: dict[str, Any] | list[Any]
    key: str | None = None
    """Of a mapping: the key whose value comes next; None: a key comes next."""


@dataclass(slots=True)
class _Builder:
    deepest: int
    documents: int = 0
    value: Any = None
    stack: list[_Open] = field(default_factory=list)

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, "an alias (*)", "yaml_alias")
        if isinstance(event, yaml.NodeEvent):
            _check_node(event)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent):
            self._document(event)

    def _document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            raise SpecError(f"a second document begins at {_at(event)}", code="yaml_documents")
        if event.tags:
            raise _refused(event, "a %TAG directive", "yaml_tag")

    def _begin(self, event: Any) -> None:
        if len(self.stack) >= self.deepest:
            raise SpecError(f"{_at(event)} is nested deeper than {self.deepest} levels", code="too_deep")
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._add(value, event)
        self.stack.append(_Open(value))

    def _scalar(self, event: Any) -> None:
        parent = self.stack[-1] if self.stack else None
        is_key = parent is not None and isinstance(parent.value, dict) and parent.key is None
        value = plain_scalar(event.value) if event.implicit[0] else event.value
        if is_key and not isinstance(value, str):
            raise SpecError(
                f"the key {event.value[:80]!r} at {_at(event)} is not text",
                code="key_not_text",
                hint="put it in quotes",
            )
        self._add(value, event)

    def _add(self, value: Any, event: Any) -> None:
        if not self.stack:
            self.value = value
            return
        parent = self.stack[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is not None:
            parent.value[parent.key], parent.key = value, None
        elif not isinstance(value, str):
            raise SpecError(f"the key at {_at(event)} is not text", code="key_not_text")
        elif value in parent.value:
            raise SpecError(f"the key {value[:80]!r} at {_at(event)} is there twice", code="duplicate_key")
        else:
            parent.key = value


def _events(text: str) -> Iterator[Any]:
    # The parser in C is thirty times as fast; a PyYAML that was built without it has only the one in Python.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _invalid(f"{problem.problem or problem.context}{place}") from None
    except yaml.reader.ReaderError as problem:
        raise _invalid(f"{problem.reason} at character {problem.position}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise _invalid(type(problem).__name__) from None


def _check_node(event: Any) -> None:
    if event.anchor is not None:
        raise _refused(event, "an anchor (&)", "yaml_anchor")
    if getattr(event, "tag", None) is not None:
        raise _refused(event, "a tag (!)", "yaml_tag")


def _refused(event: Any, what: str, code: str) -> SpecError:
    return SpecError(f"{what} is not taken: {_at(event)}", code=code, hint="write the value itself")


def _invalid(detail: str) -> SpecError:
    return SpecError(f"the body is not YAML: {detail}", code="invalid_yaml")


def _at(event: Any) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}"
