"""A hosted OpenAI-compatible API as far as its wire goes: no token ids, whatever is asked.

Written from the public reference of chat completions: `id, object, created, model, choices[].{index, message,
finish_reason, logprobs}, usage`; streams of `chat.completion.chunk` with `[DONE]`. `azure`: the same below
`/openai/deployments/NAME/…?api-version=…` with an `api-key` header. `ignores_n`: one choice whatever `n` says, as some
providers behind OpenRouter do.
"""

from __future__ import annotations

import json
from typing import Any

from tests.stand_ins.stub_reply import StubReply

TEXT = "One and one is two."


class HostedServer:
    """Called with path and body."""

    def __init__(self, *, ignores_n: bool = False, ends: bool = True) -> None:
        self.ignores_n = ignores_n
        self.ends = ends
        """False: its replies never finish."""
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, path: str, body: bytes) -> StubReply:
        said = json.loads(body)
        self.asked.append((path, said))
        if not path.endswith(("/chat/completions", "/completions")):
            return StubReply(404, b'{"error":{"message":"no such route","type":"x","param":null,"code":"404"}}')
        count = 1 if self.ignores_n else said.get("n") or 1
        chat = "messages" in said
        head = {"id": "chatcmpl-hosted", "created": 1795277634, "model": said.get("model") or "gpt-test"}
        if said.get("stream"):
            return StubReply(200, chunks=self._chunks({**head, "object": "chat.completion.chunk"}, count))
        finish = "stop" if self.ends else None
        said_by = {"message": {"role": "assistant", "content": TEXT}} if chat else {"text": TEXT}
        choices = [{"index": index, **said_by, "logprobs": None, "finish_reason": finish} for index in range(count)]
        usage = {"prompt_tokens": 9, "completion_tokens": 7 * count, "total_tokens": 9 + 7 * count}
        whole = {**head, "object": "chat.completion", "choices": choices, "usage": usage}
        return StubReply(200, json.dumps(whole).encode())

    def _chunks(self, head: dict[str, Any], count: int) -> list[bytes]:
        events = []
        for index in range(count):
            for piece in ("", *TEXT.split(" ")):
                delta = {"role": "assistant", "content": ""} if not piece else {"content": piece}
                events.append({**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]})
            if self.ends:
                events.append({**head, "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})
        return [*(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events), b"data: [DONE]\n\n"]
