"""Where a fault is: files parsed together with the line of every key.

A `Document` is a YAML or JSON file as values plus its node tree, so that a JSON pointer can be turned into the line a
person must look at. Nothing here knows what the files mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yaml.constructor import ConstructorError

if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser is ten times faster

DEEPEST = 100
"""Nesting that is refused beyond: libyaml's composer ends the process when its stack is used up."""

_OPENERS = re.compile(r"[\[{]|[-?](?=\s)")
_INDENT = re.compile(r"(?m)^ *")
_SURROGATE = re.compile(r"(?i)\\ud[89a-f][0-9a-f]{2}")


class Loader(SafeLoader):
    """The safe loader, but for numbers of thousands of digits: 0x… may be of any length, and no fault could show it."""

    def construct_shown_int(self, node: yaml.ScalarNode) -> int:
        """A whole number that can be written again."""
        try:
            value = self.construct_yaml_int(node)
            str(value)
        except ValueError as problem:
            raise ConstructorError(problem=str(problem).partition(";")[0], problem_mark=node.start_mark) from problem
        return value


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_shown_int)

Parts = Sequence[str | int]
"""A place inside a document: keys and list indices from the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in one file."""

    file: str
    """Relative to the checked folder, with `/`."""
    line: int
    """1-based; of the nearest thing that exists, when something is missing."""
    pointer: str
    """JSON pointer; empty for the whole file and for text."""
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The fault as `moor validate --json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One parsed file. `value` is None when `faults` says that it could not be read."""

    file: str
    value: Any
    node: yaml.Node | None
    """The value's node tree; None when lines cannot be told."""
    faults: tuple[Fault, ...] = ()
    """Not readable, bad syntax, duplicate keys."""
    first_line: int = 1
    """Line of the file on which the text began (front matter is a part of a file)."""

    def fault(self, parts: Parts, message: str, hint: str = "") -> Fault:
        """A fault at `parts`, with the line of the nearest existing key or item above it."""
        return Fault(file=self.file, line=self.line(parts), pointer=pointer_of(parts), message=message, hint=hint)

    def line(self, parts: Parts) -> int:
        """The 1-based line of the key or item at `parts`, or of its nearest existing parent."""
        line, node = 0, self.node
        for part in parts:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line + self.first_line


def pointer_of(parts: Parts) -> str:
    """The JSON pointer (RFC 6901) of `parts`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def read_document(root: Path, file: str) -> Document | None:
    """Parse `root/file`, JSON by its name and YAML otherwise; None when there is no such file."""
    text = read_text(root, file)
    if text is None:
        return None
    if isinstance(text, Fault):
        return Document(file=file, value=None, node=None, faults=(text,))
    return parse_json(file, text) if file.endswith(".json") else parse_yaml(file, text)


def read_text(root: Path, file: str) -> str | Fault | None:
    """The text of `root/file`; None when there is no such file, a fault when it is no readable UTF-8."""
    try:
        data = (root / file).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        return Fault(file=file, line=1, pointer="", message=f"cannot be read: {problem.strerror}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        return Fault(file=file, line=line, pointer="", message="not UTF-8 text", hint="save the file as UTF-8")


def parse_yaml(file: str, text: str, *, first_line: int = 1) -> Document:
    """Parse one YAML document, with all its duplicate keys as faults."""
    try:
        if _is_too_deep(text):
            return _unread(file, first_line, "not YAML: nested too deeply")
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            doubles = list(_doubles(node, (), set()))  # before construction, which rewrites merge keys
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as problem:
        return _syntax_fault(file, problem, first_line)
    except RecursionError:
        return _unread(file, first_line, "not YAML: an alias holds itself")
    faults = tuple(_double_fault(file, parts, line + first_line) for parts, line in doubles)
    return Document(file=file, value=value, node=node, faults=faults, first_line=first_line)


def parse_json(file: str, text: str) -> Document:
    """Parse one JSON document, with all its duplicate keys as faults."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as problem:
        return _unread(file, problem.lineno, f"not JSON: {problem.msg}")
    except (ValueError, RecursionError) as problem:
        return _unread(file, 1, f"not JSON: {problem}")
    node = _compose(text)
    faults = tuple(_double_fault(file, parts, line + 1) for parts, line in _doubles(node, (), set()))
    return Document(file=file, value=value, node=node, faults=faults)


def _is_too_deep(text: str) -> bool:
    """Whether the YAML text nests beyond DEEPEST; counted event by event only where it could."""
    if len(_OPENERS.findall(text)) + max(map(len, _INDENT.findall(text)), default=0) <= DEEPEST:
        return False
    depth = 0
    for event in yaml.parse(text, Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return True
    return False


def _compose(text: str) -> yaml.Node | None:
    """The node tree of JSON text, which YAML reads too but for tabs in the indentation and escaped surrogates."""
    spaced = re.sub(r"(?m)^[ \t]+", lambda indent: " " * len(indent.group()), text)
    plain = _SURROGATE.sub(r"\\u0020", spaced)
    try:
        node: yaml.Node | None = yaml.compose(plain, Loader)
    except (yaml.YAMLError, ValueError):
        return None
    return node


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    """The 0-based line and the node of `part` in `node`; None when there is none. The last of doubles, as parsed."""
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line, item
    return None


def _doubles(node: yaml.Node | None, parts: tuple[str | int, ...], seen: set[int]) -> Iterator[tuple[Parts, int]]:
    """Place and 0-based line of every key that its mapping has already."""
    if node is None or id(node) in seen:  # an alias is checked where its anchor is
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _doubles(item, (*parts, index), seen)
    if isinstance(node, yaml.MappingNode):
        keys: set[Hashable] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in keys:
                yield (*parts, key.value), key.start_mark.line
            keys.add((key.tag, key.value))
            yield from _doubles(value, (*parts, key.value), seen)


def _double_fault(file: str, parts: Parts, line: int) -> Fault:
    return Fault(
        file=file,
        line=line,
        pointer=pointer_of(parts),
        message=f"the key {str(parts[-1])!r} is here twice",
        hint="keep one of them",
    )


def _syntax_fault(file: str, problem: Exception, first_line: int) -> Document:
    if not isinstance(problem, yaml.MarkedYAMLError):
        return _unread(file, first_line, f"not YAML: {str(problem).splitlines()[0]}")
    mark = problem.problem_mark or problem.context_mark
    line = mark.line if mark is not None else 0
    return _unread(
        file, line + first_line, f"not YAML: {problem.problem or problem.context}", hint=_syntax_hint(problem)
    )


def _unread(file: str, line: int, message: str, hint: str = "") -> Document:
    fault = Fault(file=file, line=line, pointer="", message=message, hint=hint)
    return Document(file=file, value=None, node=None, faults=(fault,))


def _syntax_hint(problem: yaml.MarkedYAMLError) -> str:
    if "character that cannot start any token" in str(problem.problem):
        return "indent with spaces, and quote text that begins with a sign"
    if "mapping values are not allowed" in str(problem.problem):
        return "quote text that holds ': '"
    return ""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
