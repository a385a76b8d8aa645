"""Every code that the control plane can answer or end with stands in its document."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import moorage.errors
import moorage.serving
from moorage.errors import MoorageError
from tests.unit.serving.spec.platform_root import BUNDLE
from tests.unit.serving.spec.test_documented_codes import BY_NAME, codes_in

ENDS_IN_A_NAME = {"invalid_"}
"""The field's name follows."""
OWN = {
    name: kind.code
    for name, kind in vars(moorage.errors).items()
    if inspect.isclass(kind) and issubclass(kind, MoorageError)
}
"""Codes of classes, for those who raise them without one."""


def test_every_code_is_documented() -> None:
    files = sorted(Path(moorage.serving.__file__).parent.rglob("*.py"))
    where = {code: path for path in files for code in codes_in(path) | told_in(ast.parse(path.read_text()))}
    some = {"store_failed", "quota_exceeded", "bad_value", "interrupted", "backend_unreachable", "version_forgotten"}
    assert some | {"wrong_type", "port_taken", "bad_config", "app_not_found", "not_found"} <= where.keys()
    document = (BUNDLE / "docs" / "serving.md").read_text()
    missing = {code: str(path) for code, path in where.items() if f"`{code}`" not in document}
    assert {code: path for code, path in missing.items() if code not in ENDS_IN_A_NAME} == {}
    assert all(f"`{code}`" in document for code in BY_NAME)


def told_in(tree: ast.Module) -> set[str]:
    """What is given as `code`, what classes have as theirs, and what errors without one say."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = next((one.value for one in node.keywords if one.arg == "code"), None)
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found |= texts(given) if given is not None else ({OWN[called]} if called in OWN else set())
        elif isinstance(node, ast.ClassDef):
            for line in node.body:
                names = [getattr(one, "id", "") for one in getattr(line, "targets", [getattr(line, "target", None)])]
                if "code" in names and getattr(line, "value", None) is not None:
                    found |= texts(line.value)  # type: ignore[union-attr]
    return found


def texts(value: ast.expr) -> set[str]:
    """Every text in it: it may be one of two."""
    return {one.value for one in ast.walk(value) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
