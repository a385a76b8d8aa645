"""A Responses request as a chat request: the same conversation, tools and limits as chat has them.

| Responses | chat |
| --- | --- |
| `instructions` | a leading `system` message |
| `input`, text or items | messages; reasoning, message and function calls in a row are one message of the assistant |
| `function_call_output` | a message of the role `tool` |
| `max_output_tokens`, `text.format`, `reasoning.effort` | `max_tokens`, `response_format`, `reasoning_effort` |
| `previous_response_id` | what was recorded up to that reply stands before the input (the gateway looks it up) |

Fields of neither protocol pass as they are.
"""

from __future__ import annotations

from typing import Any

from moorage.gateway.dialects.dialect import Fields, one_of_types
from moorage.gateway.dialects.responses.shapes import (
    CallItem,
    FunctionTool,
    ImagePart,
    Item,
    MessageItem,
    OutputItem,
    Part,
    ReasoningItem,
    RefusalPart,
)
from moorage.gateway.http.faults import BodyWrong, Fault

__all__ = ["after", "to_chat"]

OURS = frozenset(
    (
        *("input", "instructions", "previous_response_id", "max_output_tokens", "text", "reasoning", "tools"),
        *("tool_choice", "store", "metadata", "include", "truncation", "background", "conversation", "prompt"),
        *("service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "max_tool_calls"),
    )
)
"""Fields that have another name or no meaning in a chat."""

ELSEWHERE = ("background", "conversation", "prompt", "max_tool_calls")
"""What needs OpenAI's own servers."""


def to_chat(asked: Fields) -> Fields:
    """The chat request. Raises BodyWrong, and a Fault of 400 for what only OpenAI's own servers can do."""
    for name in ELSEWHERE:
        if asked.get(name):
            raise Fault(400, f"{name} is not supported here", code="not_supported", param=name)
    if asked.get("input") is None:
        raise BodyWrong("input is missing", "/input")
    messages = [*_instructions(asked.get("instructions")), *_messages(asked["input"])]
    if not messages or (not asked["input"] and not asked.get("previous_response_id")):
        raise Fault(400, "input is empty: it takes text or at least one item", code="input_empty", param="input")
    chat: Fields = {"model": asked.get("model"), "messages": messages}
    chat.update({name: value for name, value in asked.items() if name not in OURS and name != "model"})
    if chat.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    if asked.get("max_output_tokens") is not None:
        chat["max_tokens"] = asked["max_output_tokens"]
    if chat.get("top_logprobs"):
        chat["logprobs"] = True
    _add_tools(chat, asked)
    _add_format(chat, asked)
    return chat


def after(earlier: list[Fields], chat: Fields, *, instructed: bool) -> Fields:
    """The chat with an earlier conversation before its input. `instructed`: its instructions replace the earlier."""
    messages = chat["messages"]
    if instructed and earlier and earlier[0]["role"] == "system":
        earlier = earlier[1:]
    lead, rest = (messages[:1], messages[1:]) if instructed else ([], messages)
    return {**chat, "messages": [*lead, *earlier, *rest]}


def _instructions(instructions: Any) -> list[Fields]:
    if instructions in (None, ""):
        return []
    if not isinstance(instructions, str):
        raise BodyWrong("instructions is text", "/instructions")
    return [{"role": "system", "content": instructions}]


def _messages(given: Any) -> list[Fields]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise BodyWrong("input is text or a list of items", "/input")
    typed = [{"type": "message", **item} if isinstance(item, dict) and "role" in item else item for item in given]
    messages: list[Fields] = []
    turn: Fields | None = None
    """The assistant's message that is being put together."""
    for index, item in enumerate(one_of_types(typed, list[Item], "/input")):
        if isinstance(item, OutputItem) or (isinstance(item, MessageItem) and item.role != "assistant"):
            turn = None
            messages.append(_said(item, index))
            continue
        if turn is None or not _goes_on(turn, item):
            turn = {"role": "assistant", "content": None}
            messages.append(turn)
        _add_to(turn, item, index)
    return messages


def _goes_on(turn: Fields, item: MessageItem | CallItem | ReasoningItem) -> bool:
    """Whether an item belongs to the turn before it: a turn reasons, then speaks, then calls."""
    if isinstance(item, CallItem):
        return True
    if isinstance(item, MessageItem):
        return turn["content"] is None and "tool_calls" not in turn
    return turn["content"] is None and "tool_calls" not in turn and "reasoning" not in turn


def _add_to(turn: Fields, item: MessageItem | CallItem | ReasoningItem, index: int) -> None:
    if isinstance(item, CallItem):
        function = {"name": item.name, "arguments": item.arguments}
        turn.setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})
    elif isinstance(item, MessageItem):
        turn["content"] = _text(item.content, index)
    elif item.content:
        turn["reasoning"] = turn["reasoning_content"] = "".join(part.text for part in item.content)


def _text(content: str | list[Part], index: int) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for place, part in enumerate(content):
        if isinstance(part, ImagePart):
            raise BodyWrong("an image is not the assistant's to say", f"/input/{index}/content/{place}")
        texts.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    return "".join(texts)


def _said(item: MessageItem | OutputItem, index: int) -> Fields:
    if isinstance(item, OutputItem):
        output = item.output if isinstance(item.output, str) else _parts(list(item.output), f"/input/{index}/output")
        return {"role": "tool", "tool_call_id": item.call_id, "content": output}
    if isinstance(item.content, str):
        return {"role": item.role, "content": item.content}
    return {"role": item.role, "content": _parts(item.content, f"/input/{index}/content")}


def _parts(parts: list[Any], pointer: str) -> str | list[Fields]:
    """One text is text; more are parts."""
    made: list[Fields] = []
    for place, part in enumerate(parts):
        if isinstance(part, RefusalPart):
            raise BodyWrong("a refusal is the assistant's to say", f"{pointer}/{place}")
        if not isinstance(part, ImagePart):
            made.append({"type": "text", "text": part.text})
            continue
        if part.image_url is None:
            raise BodyWrong("an image has an image_url here: there are no files", f"{pointer}/{place}/image_url")
        detail = {"detail": part.detail} if part.detail else {}
        made.append({"type": "image_url", "image_url": {"url": part.image_url, **detail}})
    return made[0]["text"] if len(made) == 1 and made[0]["type"] == "text" else made


def _add_tools(chat: Fields, asked: Fields) -> None:
    if asked.get("tools"):
        tools = one_of_types(asked["tools"], list[FunctionTool], "/tools")
        chat["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
    choice = asked.get("tool_choice")
    if choice is None:
        return
    if isinstance(choice, dict):
        if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
            raise BodyWrong("it is none, auto, required, or names a function", "/tool_choice")
        choice = {"type": "function", "function": {"name": choice["name"]}}
    chat["tool_choice"] = choice


def _function(tool: FunctionTool) -> Fields:
    function: Fields = {"name": tool.name, "parameters": tool.parameters or {"type": "object", "properties": {}}}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return function


def _add_format(chat: Fields, asked: Fields) -> None:
    text = asked.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        schema = {name: wanted[name] for name in ("name", "schema", "strict", "description") if name in wanted}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif isinstance(wanted, dict) and wanted.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    reasoning = asked.get("reasoning")
    if isinstance(reasoning, dict) and reasoning.get("effort") is not None:
        chat["reasoning_effort"] = reasoning["effort"]
