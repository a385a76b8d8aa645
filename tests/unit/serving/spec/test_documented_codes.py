"""Every code that a body or a spec can get stands in the document."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import moorage.serving.spec
from tests.unit.serving.spec.platform_root import BUNDLE

CODE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
RAISERS = {"Fault", "SpecError", "_fault", "_refused"}
BY_NAME = {"invalid_model_source", "invalid_source"}
"""Put together from the field's name."""


def test_every_code_is_documented() -> None:
    codes = {code for path in Path(moorage.serving.spec.__file__).parent.glob("*.py") for code in codes_in(path)}
    document = (BUNDLE / "docs" / "serving.md").read_text()
    assert {"yaml_anchor", "wrong_type", "model_source_forbidden", "not_patchable"} <= codes
    assert sorted(code for code in codes | BY_NAME if f"`{code}`" not in document) == []


def codes_in(path: Path) -> set[str]:
    """What calls that make faults are given that looks like a code."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    found = set()
    for call in calls:
        if getattr(call.func, "attr", getattr(call.func, "id", "")) not in RAISERS:
            continue
        given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "code")]
        plain = [arg for arg in given if isinstance(arg, (ast.Constant, ast.IfExp))]
        texts = [node.value for arg in plain for node in ast.walk(arg) if isinstance(node, ast.Constant)]
        found |= {text for text in texts if isinstance(text, str) and CODE.fullmatch(text)}
    return found
