"""A chat reply in the words of Messages."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.messages import reasoning_of
from moorage.gateway.dialects.dialect import Fields

__all__ = ["input_of", "message_id", "stop_of", "usage_of", "whole"]

ENDS = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def whole(reply: Fields, asked: Fields) -> Fields:
    """The message. Fields that the gateway or the engine put at the top of the reply stay there."""
    choice = reply["choices"][0]
    message = choice["message"]
    blocks: list[Fields] = []
    thought = reasoning_of(message)
    if thought:
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    if message.get("content"):
        blocks.append({"type": "text", "text": message["content"]})
    for call in message.get("tool_calls") or ():
        function = call["function"]
        use = {"id": call["id"], "name": function["name"], "input": input_of(function.get("arguments"))}
        blocks.append({"type": "tool_use", **use})
    stop_reason, stop_sequence = stop_of(choice)
    more: Fields = {name: reply[name] for name in ("tool_parsing", "dummy") if name in reply}
    return {
        "id": message_id(reply),
        "type": "message",
        "role": "assistant",
        "model": reply.get("model") or asked.get("model"),
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage_of(reply.get("usage")),
        **more,
    }


def message_id(reply: Fields) -> str:
    """From the chat reply's own."""
    return "msg_" + str(reply.get("id", "")).removeprefix("chatcmpl-")


def stop_of(choice: Fields) -> tuple[str, str | None]:
    """Stop reason and stop sequence of a choice that is over."""
    stopped_by = choice.get("stop_reason")
    if choice.get("finish_reason") == "stop" and isinstance(stopped_by, str):
        return "stop_sequence", stopped_by
    return ENDS.get(choice.get("finish_reason") or "", "end_turn"), None


def usage_of(usage: Any) -> Fields:
    """Token counts; cached ones are told apart where the engine does."""
    said = usage or {}
    cached = (said.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": (said.get("prompt_tokens") or 0) - cached,
        "output_tokens": said.get("completion_tokens") or 0,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
    }


def input_of(arguments: str | None) -> Fields:
    """A tool's arguments as an object. What is none stands as text under `arguments`, so that nothing is lost."""
    try:
        found = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": arguments}
