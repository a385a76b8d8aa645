"""A Messages request as a chat request: the same conversation, tools and limits in OpenAI's words.

| Messages | chat |
| --- | --- |
| `system`, text or blocks | a leading `system` message |
| `tool_use`, `tool_result` | `tool_calls`, messages of the role `tool`, in their order |
| `thinking` blocks of the assistant | `reasoning_content` (and `reasoning`, its newer name) |
| a last message of the assistant | the beginning of the reply: `continue_final_message` |
| `stop_sequences`, `tool_choice`, `output_config.format` | `stop`, `tool_choice`, `response_format` |
| `thinking: enabled, disabled` | `chat_template_kwargs.enable_thinking` |

Fields of neither protocol pass as they are.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.gateway.dialects.dialect import Fields, one_of_types
from moorage.gateway.dialects.messages.shapes import (
    Base64Source,
    Block,
    ImageBlock,
    MessageSaid,
    RedactedBlock,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from moorage.gateway.http.faults import BodyWrong, Fault

__all__ = ["to_chat"]

OURS = frozenset(
    (
        *("system", "messages", "stop_sequences", "tools", "tool_choice", "thinking", "metadata", "output_config"),
        *("output_format", "service_tier", "container", "context_management", "betas", "inference_geo", "mcp_servers"),
    )
)
"""Fields that have another name or no meaning in a chat."""

CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def to_chat(asked: Fields) -> Fields:
    """The chat request. Raises BodyWrong, and a Fault of 400 for what only Anthropic's own servers can do."""
    if asked.get("mcp_servers"):
        raise Fault(400, "mcp_servers: this gateway runs no tools itself", code="not_supported", param="mcp_servers")
    if "messages" not in asked:
        raise BodyWrong("messages is missing", "/messages")
    said = one_of_types(asked["messages"], list[MessageSaid], "/messages")
    if not said:
        raise Fault(400, "messages is empty: it takes at least one", code="messages_empty", param="messages")
    chat: Fields = {"model": asked.get("model"), "messages": [*_system(asked.get("system")), *_messages(said)]}
    chat.update({name: value for name, value in asked.items() if name not in OURS and name != "model"})
    if chat.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    if asked.get("stop_sequences"):
        chat["stop"] = one_of_types(asked["stop_sequences"], list[str], "/stop_sequences")
    _add_tools(chat, asked)
    _add_thinking(chat, asked)
    _add_format(chat, asked)
    if said[-1].role == "assistant":
        chat.update(add_generation_prompt=False, continue_final_message=True)
    return chat


def _system(system: Any) -> list[Fields]:
    if system in (None, "", []):
        return []
    blocks = one_of_types(system, str | list[TextBlock], "/system")
    text = blocks if isinstance(blocks, str) else "\n".join(block.text for block in blocks)
    return [{"role": "system", "content": text}]


def _messages(said: list[MessageSaid]) -> list[Fields]:
    messages: list[Fields] = []
    for index, message in enumerate(said):
        if isinstance(message.content, str):
            messages.append({"role": message.role, "content": message.content})
        elif message.role == "assistant":
            messages.append(_assistant(message.content, index))
        else:
            messages += _user(message.role, message.content, index)
    return messages


def _assistant(blocks: list[Block], index: int) -> Fields:
    texts, thoughts, calls = [], [], []
    for place, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ThinkingBlock):
            thoughts.append(block.thinking)
        elif isinstance(block, ToolUseBlock):
            function = {"name": block.name, "arguments": msgspec.json.encode(block.input).decode()}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif not isinstance(block, RedactedBlock):
            raise _misplaced(block, "assistant", index, place)
    message: Fields = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thoughts:
        message["reasoning_content"] = message["reasoning"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _user(role: str, blocks: list[Block], index: int) -> list[Fields]:
    """Results of tools are messages of their own; what stands between them stays between them."""
    messages: list[Fields] = []
    parts: list[Fields] = []
    for place, block in enumerate(blocks):
        if isinstance(block, ToolResultBlock):
            messages += _of_parts(role, parts)
            parts = []
            messages.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": _result(block)})
        elif isinstance(block, TextBlock | ImageBlock):
            parts.append(_part(block))
        else:
            raise _misplaced(block, role, index, place)
    return messages + _of_parts(role, parts)


def _of_parts(role: str, parts: list[Fields]) -> list[Fields]:
    if not parts:
        return []
    if all(part["type"] == "text" for part in parts):
        return [{"role": role, "content": parts[0]["text"] if len(parts) == 1 else parts}]
    return [{"role": role, "content": parts}]


def _result(block: ToolResultBlock) -> str | list[Fields]:
    if isinstance(block.content, str):
        return block.content
    if all(isinstance(part, TextBlock) for part in block.content):
        return "\n".join(part.text for part in block.content if isinstance(part, TextBlock))
    return [_part(part) for part in block.content]


def _part(block: TextBlock | ImageBlock) -> Fields:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    source = block.source
    url = f"data:{source.media_type};base64,{source.data}" if isinstance(source, Base64Source) else source.url
    return {"type": "image_url", "image_url": {"url": url}}


def _misplaced(block: Block, role: str, index: int, place: int) -> BodyWrong:
    kind = type(block).__struct_config__.tag
    return BodyWrong(f"a block of type {kind} is not the {role}'s to say", f"/messages/{index}/content/{place}")


def _add_tools(chat: Fields, asked: Fields) -> None:
    if asked.get("tools"):
        tools = one_of_types(asked["tools"], list[Tool], "/tools")
        chat["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
    if asked.get("tool_choice") is None:
        return
    choice = one_of_types(asked["tool_choice"], ToolChoice, "/tool_choice")
    if choice.type == "tool" and not choice.name:
        raise BodyWrong("a choice of type tool names one", "/tool_choice/name")
    named = {"type": "function", "function": {"name": choice.name}}
    chat["tool_choice"] = CHOICES.get(choice.type, named)
    if choice.disable_parallel_tool_use:
        chat["parallel_tool_calls"] = False


def _function(tool: Tool) -> Fields:
    function: Fields = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return function


def _add_thinking(chat: Fields, asked: Fields) -> None:
    thinking = asked.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind in ("enabled", "disabled"):
        chat["chat_template_kwargs"] = {
            "enable_thinking": kind == "enabled",
            **(chat.get("chat_template_kwargs") or {}),
        }


def _add_format(chat: Fields, asked: Fields) -> None:
    config = asked.get("output_config")
    config = config if isinstance(config, dict) else {}
    wanted = config.get("format") or asked.get("output_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        schema = {"name": "output", "schema": wanted.get("schema") or {}}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    if config.get("effort") is not None:
        chat["reasoning_effort"] = config["effort"]
