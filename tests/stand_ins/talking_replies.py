"""Replies that think, speak and call a tool, whole or in chunks as vLLM's parsers give them.

A request with tools gets a thought, a sentence and two calls; one that ends with a tool's result, or has no tools, a
thought and a sentence. With `stop` the first of its strings is what ended the text.
"""

from __future__ import annotations

import json
from typing import Any

from tests.stand_ins.stub_reply import StubReply

__all__ = ["ANSWER", "CALLS", "THOUGHT", "TalkingReplies"]

THOUGHT = "One and one… that is two."
ANSWER = "It is “two”: 1 + 1 = 2 😀."
CALLS = (("add", {"a": 1, "b": 1}), ("note", {"text": 'say "two"\n'}))
PIECE = 5


class TalkingReplies:
    """Called with path and body, for chat; counts tokens for `/tokenize`."""

    def __init__(self, model: str = "stub") -> None:
        self._model = model

    def __call__(self, path: str, body: bytes) -> StubReply:
        asked = json.loads(body)
        if path != "/v1/chat/completions":
            return StubReply(404, b'{"detail":"Not Found"}')
        calls = CALLS if asked.get("tools") and asked["messages"][-1]["role"] != "tool" else ()
        end = {"finish_reason": "tool_calls" if calls else "stop", "stop_reason": (asked.get("stop") or [None])[0]}
        if asked.get("max_tokens") == 1:
            end = {"finish_reason": "length", "stop_reason": None}
        prompt = [len(str(message)) % 500 for message in asked["messages"]]
        if asked.get("stream"):
            return StubReply(200, chunks=[*self._chunks(calls, end, prompt), b"data: [DONE]\n\n"])
        message = {"role": "assistant", "content": ANSWER, "reasoning": THOUGHT, "tool_calls": _calls(calls)}
        choice = {"index": 0, "message": message, "logprobs": _logprobs(3), **end, "token_ids": [1, 2, 3]}
        reply = self._head("chat.completion") | {"choices": [choice], "usage": _usage(prompt, 3)}
        return StubReply(200, json.dumps(reply | {"prompt_token_ids": prompt}, separators=(",", ":")).encode())

    def _chunks(self, calls: Any, end: dict[str, Any], prompt: list[int]) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning": THOUGHT[at : at + PIECE]} for at in range(0, len(THOUGHT), PIECE)]
        deltas += [{"content": ANSWER[at : at + PIECE]} for at in range(0, len(ANSWER), PIECE)]
        for index, call in enumerate(_calls(calls)):
            arguments = call["function"]["arguments"]
            named = {"id": call["id"], "type": "function", "function": {"name": call["function"]["name"]}}
            deltas.append({"tool_calls": [{"index": index, **named}]})
            for at in range(0, len(arguments), PIECE):
                piece = {"index": index, "function": {"arguments": arguments[at : at + PIECE]}}
                deltas.append({"tool_calls": [piece]})
        deltas.append({})
        events = []
        for place, delta in enumerate(deltas):
            last = place == len(deltas) - 1
            choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None if last else _logprobs(1)}
            choice |= end if last else {"finish_reason": None}
            choice["token_ids"] = [] if last else [place % 500]
            chunk = self._head("chat.completion.chunk") | {"choices": [choice]}
            events.append(chunk | ({"prompt_token_ids": prompt} if place == 0 else {}))
        events.append(self._head("chat.completion.chunk") | {"choices": [], "usage": _usage(prompt, len(deltas) - 1)})
        return [b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events]

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-5ac6d8e6acffae16", "object": kind, "created": 1795277634, "model": self._model}


def _calls(calls: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for place, (name, arguments) in enumerate(calls)
    ]


def _logprobs(count: int) -> dict[str, Any]:
    entry = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    return {"content": [entry] * count}


def _usage(prompt: list[int], sampled: int) -> dict[str, int]:
    return {"prompt_tokens": len(prompt), "completion_tokens": sampled, "total_tokens": len(prompt) + sampled}
