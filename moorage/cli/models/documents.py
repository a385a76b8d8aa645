"""Pure: the documents of a spec file, and where in the file a fault is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Document", "placed_faults", "repeated", "split"]

MARK = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
"""At the start of a line it begins a document wherever it stands: YAML allows it inside no value."""
NOTHING = re.compile(rb"\A(?:\s*(?:#[^\n]*|%[^\n]*|\.\.\.[ \t\r]*|---[ \t\r]*)?(?:\n|\Z))*\Z")
"""Blank lines, comments, directives and marks alone."""


@dataclass(frozen=True, slots=True)
class Document:
    """One spec of a file, as the bytes that are sent."""

    content: bytes
    first_line: int
    """Of the file, from 1."""
    name: str
    """For people: the file, and which document of it when there are several."""


def split(content: bytes, file: str) -> list[Document]:
    """The documents of a YAML file; a file with one of them, or none, is sent as it is.

    Nothing is parsed: whether a document is good is for the server to say.
    """
    starts = [0, *(found.start() for found in MARK.finditer(content) if found.start() > 0)]
    ends = [*starts[1:], len(content)]
    pieces = [(start, content[start:end]) for start, end in zip(starts, ends, strict=True)]
    full = [(start, piece) for start, piece in pieces if not _is_nothing(piece)]
    if len(full) <= 1:
        return [Document(content, 1, file)]
    return [
        Document(piece, content.count(b"\n", 0, start) + 1, f"{file} (document {number})")
        for number, (start, piece) in enumerate(full, 1)
    ]


def repeated(documents: Sequence[Document]) -> tuple[Document, Document, str] | None:
    """Two documents of one model and its `model_id`; None: there are none. All of them must be good."""
    seen: dict[str, Document] = {}
    for document in documents:
        model_id = str(_parsed(document.content).value["model_id"])
        if model_id in seen:
            return seen[model_id], document, model_id
        seen[model_id] = document
    return None


def placed_faults(document: Document, file: str, errors: Sequence[Any]) -> list[dict[str, Any]]:
    """The faults that the API told of, each with its line in the file (that of the nearest thing that is there)."""
    tree = _tree(document.content)
    return [_placed(one, file, document.first_line, tree) for one in errors if isinstance(one, Mapping)]


def _is_nothing(piece: bytes) -> bool:
    return all(NOTHING.match(line) for line in piece.splitlines())


def _placed(fault: Mapping[str, Any], file: str, first_line: int, tree: Any) -> dict[str, Any]:
    pointer = str(fault.get("pointer", ""))
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    placed = {"file": file, "line": _line(tree, parts) + first_line, "pointer": pointer}
    placed |= {"message": str(fault.get("detail", "")), "hint": str(fault.get("hint", ""))}
    return placed | ({"code": fault["code"]} if "code" in fault else {})


def _tree(content: bytes) -> Any:
    """The document's nodes, which know their lines; None when it cannot be read."""
    try:
        return _parsed(content).node
    except UnicodeDecodeError:
        return None


def _parsed(content: bytes) -> Any:
    from moorage.catalog.locations import parse_yaml

    return parse_yaml("", content.decode("utf-8-sig"))


def _line(tree: Any, parts: Sequence[str]) -> int:
    """The line of a place, from 0; of the nearest thing above it, where there is none."""
    from moorage.catalog.locations import Document as Parsed

    typed: list[str | int] = [int(part) if part.isdecimal() else part for part in parts]
    return Parsed(file="", value=None, node=tree, first_line=0).line(typed)
