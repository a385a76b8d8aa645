"""JSON Schemas of the reference files, generated from the shapes.

They let editors and other tools check the files. Their text is a function of the shapes alone, so a difference to what
is committed means that somebody changed a shape and not the schemas, or the schemas by hand.
"""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

from moorage.catalog import shapes
from moorage.catalog.locations import Fault, read_text

FOLDER = "references/schemas"
FIX = "run moor validate --write"

_SHAPES: dict[str, tuple[type[shapes.Shape], str]] = {
    "service": (shapes.ServiceReference, "references/service.yaml"),
    "request": (shapes.RequestReference, "references/request.yaml"),
    "code-templates": (shapes.CodeTemplates, "references/code-templates.yaml"),
    "network-arch-config": (shapes.Sidecar, "references/{network_arch}.config.json"),
    "versions": (shapes.Versions, "versions.yaml"),
}


def schema_texts() -> dict[str, str]:
    """File (relative to the bundle) → text of every schema."""
    descriptions = _field_descriptions(inspect.getsource(shapes))
    return {f"{FOLDER}/{name}.schema.json": _text(shape, of, descriptions) for name, (shape, of) in _SHAPES.items()}


def drift(root: Path) -> list[Fault]:
    """A fault for every committed schema that is not what the shapes say, is missing, or belongs to no shape."""
    texts = schema_texts()
    faults = []
    for file, text in texts.items():
        found = read_text(root, file)
        if isinstance(found, Fault):
            faults.append(found)
        elif found is None:
            faults.append(Fault(file=file, line=1, pointer="", message="the schema is missing", hint=FIX))
        elif found != text:
            line = _first_difference(found, text)
            faults.append(Fault(file=file, line=line, pointer="", message="not what the shapes say", hint=FIX))
    for path in sorted((root / FOLDER).glob("*")):
        file = f"{FOLDER}/{path.name}"
        if file not in texts:
            faults.append(Fault(file=file, line=1, pointer="", message="no shape has this schema", hint="remove it"))
    return faults


def write(root: Path) -> list[str]:
    """Write every schema that differs; the files written, relative to `root`."""
    written = []
    for file, text in schema_texts().items():
        if read_text(root, file) != text:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text, encoding="utf-8")
            written.append(file)
    return written


def _text(shape: type[shapes.Shape], of: str, descriptions: dict[str, dict[str, str]]) -> str:
    schema = shape.model_json_schema()
    for name, definition in [*schema.get("$defs", {}).items(), (shape.__name__, schema)]:
        for key, text in descriptions.get(name, {}).items():
            definition["properties"][key]["description"] = text
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": of}
    return json.dumps(head | _without_titles(schema), indent=2, ensure_ascii=False) + "\n"


def _without_titles(value: Any, *, names: bool = False) -> Any:
    """The schema without pydantic's titles, which repeat the names. With `names`, keys are names and not keywords."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if names or key != "title"}
        return {key: _without_titles(item, names=not names and key == "properties") for key, item in kept.items()}
    return [_without_titles(item) for item in value] if isinstance(value, list) else value


def _field_descriptions(source: str) -> dict[str, dict[str, str]]:
    """Class → field → the text below the field, which Python keeps nowhere."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, below in zip(node.body, node.body[1:], strict=False):
            text = _bare_text(below)
            if text and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found.setdefault(node.name, {})[field.target.id] = inspect.cleandoc(text)
    return found


def _bare_text(node: ast.stmt) -> str | None:
    value = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
    return value if isinstance(value, str) else None


def _first_difference(found: str, wanted: str) -> int:
    pairs = zip(found.splitlines(), wanted.splitlines(), strict=False)
    return next((index for index, (one, other) in enumerate(pairs, start=1) if one != other), 1)
