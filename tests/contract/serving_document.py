"""The serving API's OpenAPI document, and replies held against it."""

from __future__ import annotations

from typing import Any

import jsonschema
import requests

from moorage.serving.api.openapi.document import document

DOCUMENT = document()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation)"""
    return [
        (method.upper(), path, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    ]


def check_declared(name: str, reply: requests.Response) -> None:
    """That status, content type and content are as the document says."""
    [operation] = [one for _, _, one in operations() if one["operationId"] == name]
    assert str(reply.status_code) in operation["responses"], f"{name}: {reply.status_code} {reply.text[:300]}"
    declared = operation["responses"][str(reply.status_code)].get("content", {})
    if not declared:
        assert reply.content == b""
        return
    content_type = reply.headers["content-type"].partition(";")[0]
    assert content_type in declared, (name, content_type)
    if content_type.endswith("json"):
        components = _without_nullable(DOCUMENT["components"])
        schema = {**_without_nullable(declared[content_type]["schema"]), "components": components}
        jsonschema.Draft202012Validator(schema).validate(reply.json())


def _without_nullable(value: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema."""
    if isinstance(value, list):
        return [_without_nullable(one) for one in value]
    if not isinstance(value, dict):
        return value
    said = {name: _without_nullable(one) for name, one in value.items() if name != "nullable"}
    return {"anyOf": [said, {"type": "null"}]} if value.get("nullable") is True else said
