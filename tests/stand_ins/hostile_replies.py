"""Replies of an engine whose model says what would break a stream of events, a header or a line of a log."""

from __future__ import annotations

import json
from typing import Any

from tests.stand_ins.stub_reply import StubReply

__all__ = ["ENDING", "HOSTILE", "HostileReplies"]

ENDING = "\n\nevent: message_stop\ndata: {}\n\ndata: [DONE]\n\n"
"""Ends a stream where text is not escaped."""
HOSTILE = (
    ENDING,
    "\r\n\r\nHTTP/1.1 200 OK\r\nset-cookie: a=b\r\n\r\n",
    "\r",
    "\u2028\u2029\x85\x0b\x0c",
    ": ping\n\n",
    "\x1b[31m",
)


class HostileReplies:
    """Called with path and body, for streamed chats: each of `HOSTILE` as thought, text and a tool's name.

    Ids and the model's name are hostile too. With `stop: ["fault"]` an error comes in the middle.
    """

    def __call__(self, path: str, body: bytes) -> StubReply:
        asked = json.loads(body)
        if path != "/v1/chat/completions" or not asked.get("stream"):
            return StubReply(404, b'{"detail":"Not Found"}')
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning": one} for one in HOSTILE]
        deltas += [{"content": one} for one in HOSTILE]
        for index, one in enumerate(HOSTILE):
            called = {"name": f"t{one}", "arguments": json.dumps({"a": one})}
            deltas.append({"tool_calls": [{"index": index, "id": f"c{one}", "type": "function", "function": called}]})
        chunks = [_chunk(place, delta, None) for place, delta in enumerate(deltas)]
        if asked.get("stop") == ["fault"]:
            fault = {"error": {"message": f"no{ENDING}", "type": f"x{ENDING}", "code": 500}}
            return StubReply(200, chunks=[*chunks[:5], _event(fault)])
        return StubReply(200, chunks=[*chunks, _chunk(len(chunks), {}, "tool_calls"), b"data: [DONE]\n\n"])


def _chunk(place: int, delta: dict[str, Any], end: str | None) -> bytes:
    scored = None if end else {"content": [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]}
    choice = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": scored, "token_ids": [] if end else [place]}
    head = {"id": f"chatcmpl-{ENDING}", "object": "chat.completion.chunk", "created": 1, "model": f"stub{ENDING}"}
    return _event(head | {"choices": [choice]} | ({"prompt_token_ids": [1, 2]} if place == 0 else {}))


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
