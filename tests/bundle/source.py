"""What the package's source says by itself: variables it reads, error codes it raises, tests there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from moorage import errors
from tests.bundle.checkout import ROOT

COMMON_VARIABLES = {"HOME", "PATH", "PYTHONPATH"}
"""Read, and nothing of Moorage's to explain."""


def variables_read(*folders: str) -> set[str]:
    """Variables that are looked up by a literal name in something called `environ`."""
    found = set()
    for node in _nodes(*folders):
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript) and _is_environ(node.value):
            key = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            key = node.args[0] if _is_environ(node.func.value) and node.args else None
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            found.add(key.value)
    return found - COMMON_VARIABLES


SERVED = tuple(
    f"moorage/{folder}/" for folder in ("capture", "engines", "pool", "rewards", "gateway", "traces/replaying")
)
"""Folders whose errors are told over HTTP."""
LIBRARY = ("moorage/client/", "moorage/serving/")
"""Whose errors are raised in the program that imports it, and told by no command; or that docs/serving.md has."""


def error_codes(*, served: bool) -> dict[str, set[int]]:
    """Error code → the exit statuses of the classes that it is raised with, as far as they can be read.

    `served`: those that the gateway tells over HTTP, else those of commands.
    """
    found: dict[str, set[int]] = {}
    names = [str(path.relative_to(ROOT)) for path in (ROOT / "moorage").rglob("*.py")]
    for node in _nodes(*(name for name in names if name.startswith(SERVED) == served and not name.startswith(LIBRARY))):
        for code, name in _codes_in(node):
            error = getattr(errors, name, None) if name in errors.__all__ else None
            found.setdefault(code, set()).update({error.exit_status} if error else set())
    return found


def names_of_tests(file: Path) -> set[str]:
    """`test_name` and `TestClass::test_name` of one file."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def _codes_in(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(code, name of the error class, or of what raises it) for a class, a call or a default that gives a code."""
    if isinstance(node, ast.ClassDef):
        yield from _class_code(node)
    elif isinstance(node, ast.Call):
        yield from _call_code(node)
    elif isinstance(node, ast.FunctionDef):
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            if argument.arg == "code":
                yield from _constants(default, node.name)


def _class_code(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for line in node.body:
        if isinstance(line, ast.Assign | ast.AnnAssign):
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            if isinstance(target, ast.Name) and target.id == "code":
                yield from _constants(line.value, node.name)


def _call_code(node: ast.Call) -> Iterator[tuple[str, str]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "_Rule":
        yield from _constants(node.args[2], getattr(node.args[1], "id", ""))
    for keyword in node.keywords:
        if keyword.arg == "code":
            yield from _constants(keyword.value, name)


def _constants(value: ast.expr | None, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, ast.IfExp):
        yield from _constants(value.body, name)
        yield from _constants(value.orelse, name)
    elif isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value, name


def _is_environ(node: ast.expr) -> bool:
    return ast.unparse(node).rpartition(".")[2].lstrip("_") == "environ"


def _nodes(*folders: str) -> Iterator[ast.AST]:
    for folder in folders:
        place = ROOT / folder
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place] * (place.suffix == ".py"):
            yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))
