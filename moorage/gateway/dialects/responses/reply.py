"""A chat reply as a response with its items: reasoning, message, function calls."""

from __future__ import annotations

from typing import Any

from moorage.capture.messages import reasoning_of
from moorage.gateway.dialects.dialect import Fields

__all__ = ["call_item", "ended", "message_item", "reasoning_item", "response_id", "skeleton", "status_of", "whole"]

REPEATED: Fields = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "top_logprobs": 0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what it says where the request says nothing."""

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def whole(reply: Fields, asked: Fields) -> Fields:
    """The response."""
    response = skeleton(reply, asked)
    key = response["id"].removeprefix("resp_")
    choice = reply["choices"][0]
    message = choice["message"]
    output: list[Fields] = []
    thought = reasoning_of(message)
    if thought:
        output.append(reasoning_item(key, thought))
    if message.get("content"):
        output.append(message_item(key, message["content"], "completed"))
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        output.append(
            call_item(key, number, call["id"], function["name"], function.get("arguments") or "", "completed")
        )
    if output and "status" in output[-1]:
        output[-1]["status"] = status_of(choice)  # it is the last one that was cut
    response["output"] = output
    more: Fields = {name: reply[name] for name in ("tool_parsing", "dummy") if name in reply}
    return {**ended(response, choice, reply.get("usage")), **more}


def skeleton(reply: Fields, asked: Fields) -> Fields:
    """The response before anything was said. `reply`: a chat reply, or a chunk of one."""
    given = {name: asked[name] for name in REPEATED if asked.get(name) is not None}
    return {
        "id": response_id(str(reply.get("id", ""))),
        "object": "response",
        "created_at": reply.get("created") or 0,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": reply.get("model") or asked.get("model"),
        "output": [],
        "usage": None,
        **REPEATED,
        **given,
    }


def response_id(chat_id: str) -> str:
    """From the chat reply's own."""
    return "resp_" + chat_id.removeprefix("chatcmpl-")


def status_of(choice: Fields) -> str:
    """Of a response or item that ends as this choice does; `choice` may have no end yet."""
    return "incomplete" if choice.get("finish_reason") in INCOMPLETE else "completed"


def ended(response: Fields, choice: Fields, usage: Any) -> Fields:
    """The response when its choice is over."""
    why = INCOMPLETE.get(choice.get("finish_reason") or "")
    return {
        **response,
        "status": status_of(choice),
        "incomplete_details": {"reason": why} if why else None,
        "usage": _usage(usage),
    }


def reasoning_item(key: str, text: str) -> Fields:
    """What was thought. `key`: the response's, so that ids of items are its own."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": f"rs_{key}", "type": "reasoning", "summary": [], "content": content}


def message_item(key: str, text: str, status: str) -> Fields:
    """What was said."""
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"id": f"msg_{key}", "type": "message", "role": "assistant", "status": status, "content": content}


def call_item(key: str, number: int, call_id: str, name: str, arguments: str, status: str) -> Fields:
    """A function call, the `number`th of its response."""
    call = {"call_id": call_id, "name": name, "arguments": arguments}
    return {"id": f"fc_{key}_{number}", "type": "function_call", "status": status, **call}


def _usage(usage: Any) -> Fields:
    said = usage or {}
    cached = (said.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (said.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    sent, sampled = said.get("prompt_tokens") or 0, said.get("completion_tokens") or 0
    return {
        "input_tokens": sent,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": sampled,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": sent + sampled,
    }
