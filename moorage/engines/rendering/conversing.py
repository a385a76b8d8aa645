"""OpenAI messages in the form that chat templates are written for; the same that vLLM gives them.

| OpenAI | template |
| --- | --- |
| content null | "" (or no parts) |
| text parts | their texts with line ends between, or the parts themselves for a template that reads parts |
| a tool's parts | always one text |
| tool_calls[].function.arguments, JSON in a string | the object; {} when it is no object |
| tool_calls [] | left out |
| reasoning or reasoning_content | both, since templates differ in the name |
| developer, for a template that does not know the word | system; all system texts are then one message, the first |
| tools | type and function, with description and parameters null when they are missing |

Any other field of a message is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.capture.messages import reasoning_of
from moorage.engines.rendering.trace import Sealed, parsed_arguments

__all__ = ["Conversing"]


class Conversing:
    """How one template takes its messages."""

    def __init__(self, *, takes_parts: bool, knows_developer: bool) -> None:
        self.takes_parts = takes_parts
        self.knows_developer = knows_developer

    def messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Fresh values: what a template does to them touches nobody else's."""
        forms = [self._message(message) for message in messages]
        if self.knows_developer or not any(form["role"] == "developer" for form in forms):
            return forms
        return _with_one_system_message(forms)

    def tools(self, tools: Sequence[Any]) -> list[Any]:
        """Fresh values too. What is no OpenAI tool is given as it is."""
        return [_tool(tool) for tool in tools]

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        role = message.get("role")
        form: dict[str, Any] = {"role": role, "content": self._content(role, message.get("content"))}
        if role == "assistant":
            calls = message.get("tool_calls")
            if isinstance(calls, list) and calls:
                form["tool_calls"] = [_call(call) for call in calls]
            reasoning = reasoning_of(message)
            if reasoning is not None:
                form["reasoning"] = form["reasoning_content"] = reasoning
        elif role == "tool" and message.get("tool_call_id") is not None:
            form["tool_call_id"] = message["tool_call_id"]
        elif role == "developer":
            form["tools"] = message.get("tools")
        if isinstance(message.get("name"), str):
            form["name"] = message["name"]
        return form

    def _content(self, role: Any, content: Any) -> Any:
        if role == "tool" or not self.takes_parts:
            return _joined(content)
        if content is None or content == "":
            return []
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        return [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]


def _with_one_system_message(forms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    instructions = [form for form in forms if form["role"] in ("developer", "system")]
    if len(instructions) == 1 and forms[0] is instructions[0]:
        first = {name: value for name, value in forms[0].items() if name != "tools"}
        return [{**first, "role": "system"}, *forms[1:]]
    texts = [text for form in instructions if (text := _joined(form["content"]))]
    others = [form for form in forms if form["role"] not in ("developer", "system")]
    return [{"role": "system", "content": "\n\n".join(texts)}, *others]


def _joined(content: Any) -> Any:
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    texts = [part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | dict)]
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = dict(call["function"])
    function["arguments"] = _arguments(function.get("arguments"))
    return {**call, "function": function}


def _arguments(arguments: Any) -> dict[str, Any] | Sealed:
    return arguments if isinstance(arguments, Sealed) else parsed_arguments(arguments)


def _tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping) or not isinstance(tool.get("function"), Mapping):
        return tool
    function = tool["function"]
    form = {"name": function.get("name"), "description": function.get("description")}
    form["parameters"] = function.get("parameters")
    if function.get("strict") is not None:
        form["strict"] = function["strict"]
    return {"type": "function", "function": form}
