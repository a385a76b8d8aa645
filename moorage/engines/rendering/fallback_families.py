"""How three families of models write tools, calls and results in plain text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["FAMILIES", "Family"]

Calls = Sequence[tuple[str, Any]]
"""(name, arguments) of each."""


class Family(NamedTuple):
    """One family's words."""

    preamble: Callable[[Sequence[Any]], str]
    """What is offered, for OpenAI's tools; empty for none."""
    calls: Callable[[Calls], str]
    result: Callable[[str, str], str]
    """Of (the function's name, what it gave)."""
    between: str
    """Stands between results."""


def _hermes_preamble(tools: Sequence[Any]) -> str:
    if not tools:
        return ""
    listed = "\n".join(_dumped(tool) for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{listed}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n"
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


def _hermes_calls(calls: Calls) -> str:
    made = [_dumped({"name": name, "arguments": arguments}) for name, arguments in calls]
    return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in made)


def _hermes_result(name: str, content: str) -> str:
    del name
    return f"<tool_response>\n{content}\n</tool_response>"


def _llama_preamble(tools: Sequence[Any]) -> str:
    if not tools:
        return ""
    listed = "\n\n".join(json.dumps(tool, ensure_ascii=False, indent=4) for tool in tools)
    return (
        "Given the following functions, please respond with a JSON for a function call with its proper arguments "
        "that best answers the given prompt.\n\n"
        'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}. '
        f"Do not use variables.\n\n{listed}"
    )


def _llama_calls(calls: Calls) -> str:
    return "; ".join(_dumped({"name": name, "parameters": arguments}) for name, arguments in calls)


def _pythonic_preamble(tools: Sequence[Any]) -> str:
    if not tools:
        return ""
    listed = json.dumps([_function(tool) for tool in tools], ensure_ascii=False, indent=4)
    return (
        "If you decide to invoke any of the functions, you must put it in the format of "
        "[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]. "
        "You should not include any other text in the response.\n\n"
        f"Here is a list of functions in JSON format that you can invoke.\n\n{listed}"
    )


def _pythonic_calls(calls: Calls) -> str:
    made = []
    for name, arguments in calls:
        given = arguments.items() if isinstance(arguments, dict) else ()
        made.append(f"{name}({', '.join(f'{key}={_literal(value)}' for key, value in given)})")
    return f"[{', '.join(made)}]"


def _json_result(name: str, content: str) -> str:
    return _dumped({"name": name, "output": content} if name else {"output": content})


def _function(tool: Any) -> Any:
    return tool["function"] if isinstance(tool, dict) and "function" in tool else tool


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(value: Any) -> str:
    """Python's; a string as JSON writes it, which Python reads too."""
    if isinstance(value, str):
        return _dumped(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_dumped(key)}: {_literal(one)}" for key, one in value.items()) + "}"
    return repr(value)


FAMILIES = MappingProxyType(
    {
        "hermes": Family(_hermes_preamble, _hermes_calls, _hermes_result, "\n"),
        "llama3_json": Family(_llama_preamble, _llama_calls, _json_result, "\n"),
        "pythonic": Family(_pythonic_preamble, _pythonic_calls, _json_result, "\n"),
    }
)
