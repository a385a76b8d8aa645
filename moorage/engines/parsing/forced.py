"""Calls that a request demands (`tool_choice` required, or a function's name) as JSON, which needs no parser.

That is how vLLM's chat route asks for them where a parser has no form of its own for it: the engine may only sample a
JSON list of calls, or the named function's arguments.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["forced_calls", "forced_schema", "named_tool"]

Tools = Sequence[Mapping[str, Any]]
ANYTHING = {"type": "object", "properties": {}}


def named_tool(choice: Any) -> str | None:
    """The function that `tool_choice` names; None: it names none."""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def forced_schema(tools: Tools, choice: Any, *, single: bool = False) -> dict[str, Any] | None:
    """The JSON schema that the reply must keep to; None: nothing is demanded. `single`: no more than one call."""
    name = named_tool(choice)
    if name is not None:
        found = next((tool for tool in tools if tool["function"]["name"] == name), None)
        return None if found is None else copy.deepcopy(found["function"].get("parameters") or ANYTHING)
    if choice != "required":
        return None
    definitions: dict[str, Any] = {}
    forms = []
    for tool in tools:
        parameters: dict[str, Any] = copy.deepcopy(tool["function"].get("parameters") or ANYTHING)
        named = parameters.pop("$defs", None)
        definitions |= named if isinstance(named, dict) else {}
        properties = {"name": {"type": "string", "enum": [tool["function"]["name"]]}, "parameters": parameters}
        forms.append({"properties": properties, "required": ["name", "parameters"]})
    schema: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"type": "object", "anyOf": forms}}
    if single:
        schema["maxItems"] = 1
    return {**schema, "$defs": definitions} if definitions else schema


def forced_calls(text: str | None, choice: Any, *, new_id: Callable[[], str]) -> list[dict[str, Any]]:
    """The calls in a reply that was to be such JSON; none where it is not. A thought before it does not count."""
    try:
        said = json.loads((text or "").rpartition("</think>")[2])
    except (ValueError, RecursionError):
        return []
    name = named_tool(choice)
    if name is not None:
        return [_call(name, said, new_id())] if isinstance(said, dict) else []
    if choice != "required" or not isinstance(said, list) or not all(map(_is_call, said)):
        return []
    return [_call(one["name"], one.get("parameters", {}), new_id()) for one in said]


def _is_call(said: Any) -> bool:
    return isinstance(said, dict) and isinstance(said.get("name"), str) and isinstance(said.get("parameters", {}), dict)


def _call(name: str, arguments: Any, call_id: str) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": f"call-{call_id}", "type": "function", "function": function}
