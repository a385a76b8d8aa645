"""Fields of a client's request that engines are told of in other words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.errors import UsageError

__all__ = ["demanded_schema", "field", "structured_outputs"]

Fields = Mapping[str, msgspec.Raw]


def field(fields: Fields, name: str) -> Any:
    """A field's value; None where it is null or absent. Raises UsageError for numbers that no engine can be told."""
    try:
        return msgspec.json.decode(fields.get(name, b"null"))
    except msgspec.DecodeError as fault:
        raise UsageError(f"{name} cannot be read: {fault}", code="body_wrong") from None


def demanded_schema(fields: Fields) -> Any:
    """The JSON schema of `response_format`; True: any object; None: nothing is demanded. Raises UsageError."""
    wanted = field(fields, "response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return True
    given = wanted.get("json_schema")
    if not isinstance(given, dict | None):
        raise UsageError("response_format.json_schema is an object with a schema", code="body_wrong")
    return (given or {}).get("schema")


def structured_outputs(fields: Fields) -> dict[str, Any]:
    """`response_format` as vLLM's `structured_outputs`; empty: the client says those itself. Raises UsageError."""
    schema = None if "structured_outputs" in fields else demanded_schema(fields)
    if schema is None:
        return {}
    return {"structured_outputs": {"json_object": True} if schema is True else {"json": schema}}
