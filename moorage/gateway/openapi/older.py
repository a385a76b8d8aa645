"""The document for a reader of OpenAPI 3.0: Swagger UI 4, whose files are served here, knows no 3.1."""

from __future__ import annotations

from typing import Any

__all__ = ["as_openapi_3_0"]


def as_openapi_3_0(document: dict[str, Any]) -> dict[str, Any]:
    """The same said in 3.0: `nullable` in place of the type null, an `enum` of one in place of `const`."""
    told: dict[str, Any] = _told(document)
    return {**told, "openapi": "3.0.3"}


def _told(value: Any) -> Any:
    if isinstance(value, list):
        return [_told(one) for one in value]
    if not isinstance(value, dict):
        return value
    said = {name: _told(one) for name, one in value.items() if not (name == "required" and one == [])}
    if "const" in said:
        said["enum"] = [said.pop("const")]
    if isinstance(said.get("type"), list):
        said["anyOf"] = [{"type": one} for one in said.pop("type")]
    if isinstance(said.get("exclusiveMinimum"), int | float):
        said["minimum"] = said["exclusiveMinimum"]
        said["exclusiveMinimum"] = True
    return _nullable(said)


def _nullable(said: dict[str, Any]) -> dict[str, Any]:
    kinds = said.get("anyOf")
    if not isinstance(kinds, list) or {"type": "null"} not in kinds:
        return said
    rest = [one for one in kinds if one != {"type": "null"}]
    del said["anyOf"]
    one = rest[0] if len(rest) == 1 and "$ref" not in rest[0] else {"anyOf": rest}
    return {**said, **one, "nullable": True}
