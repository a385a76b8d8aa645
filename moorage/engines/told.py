"""Replies as vLLM writes them, made of what other engines gave: whole ones, and the same as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.engines.contract import Wanted
from moorage.engines.vllm.known import Known

__all__ = ["DONE", "Choice", "as_stream", "completion_reply", "event"]

DONE = b"data: [DONE]\n\n"


class Choice(msgspec.Struct, frozen=True):
    """One choice of a text completion, whole or a piece of one."""

    index: int
    text: str
    ids: Sequence[int]
    logprobs: Sequence[float | None]
    finish_reason: str | None
    stop_reason: int | str | None = None
    tops: Sequence[dict[str, float] | None] | None = None
    """By token, each with names and log probabilities; None: not asked for."""
    spans: Sequence[tuple[str, int, int]] = ()
    """(weights' version, first token, after the last), counted in the whole choice; empty: the engine does not say."""

    def fields(self, prompt: Known | None) -> dict[str, Any]:
        """As vLLM writes it. `prompt`: the ids that were sent, for the choice that says them."""
        logprobs: dict[str, Any] = {"token_logprobs": list(self.logprobs)}
        if self.tops is not None:
            logprobs["top_logprobs"] = list(self.tops)
        said: dict[str, Any] = {
            "index": self.index,
            "text": self.text,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": list(self.ids),
        }
        if prompt is not None:
            said["prompt_token_ids"] = msgspec.Raw(b"[" + prompt.text + b"]")
        if self.spans:
            said["weight_versions"] = [{"version": name, "start": at, "end": to} for name, at, to in self.spans]
        return said


def completion_reply(name: str, choices: Sequence[Choice], wanted: Wanted, usage: dict[str, int] | None) -> bytes:
    """A `/v1/completions` reply to the ids that were sent. `name`: its id."""
    body = {
        "id": name,
        "object": "text_completion",
        "created": 0,
        "model": wanted.model,
        "choices": [choice.fields(wanted.prompt) for choice in choices],
        "usage": usage,
    }
    return msgspec.json.encode(body)


def as_stream(reply: bytes) -> bytes:
    """The events of a stream that says what a whole reply says: for engines that stream without ids, or not at all."""
    said = msgspec.json.decode(reply)
    choices = said.pop("choices")
    usage = said.pop("usage", None)
    prompt = {"prompt_token_ids": said.pop("prompt_token_ids", None)}
    chat = said.get("object") != "text_completion"
    head = {**said, "object": "chat.completion.chunk"} if chat else said
    events = []
    for choice in choices:
        prompt_ids = choice.pop("prompt_token_ids", None) or prompt["prompt_token_ids"]
        message = choice.pop("message", None)
        if message is not None:
            role = {"index": choice["index"], "delta": {"role": message.get("role", "assistant"), "content": ""}}
            first = {**role, "logprobs": None, "finish_reason": None, "token_ids": None}
            events.append(event({**head, "choices": [first], "prompt_token_ids": prompt_ids}))
            choice = {"index": choice["index"], "delta": _delta(message), **choice}
            events.append(event({**head, "choices": [choice]}))
        else:
            events.append(event({**head, "choices": [{**choice, "prompt_token_ids": prompt_ids}]}))
    if usage is not None:
        events.append(event({**head, "choices": [], "usage": usage}))
    return b"".join([*events, DONE])


def event(said: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: %b\n\n" % msgspec.json.encode(said)


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    """All of a message at once."""
    delta = {name: value for name, value in message.items() if name != "role" and value is not None}
    if delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(message["tool_calls"])]
    else:
        delta.pop("tool_calls", None)
    return delta
