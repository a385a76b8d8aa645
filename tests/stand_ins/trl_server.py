"""TRL's vLLM server (`trl vllm-serve`) as far as its wire goes, over the small engine's tokens.

Written from its script's request and reply models: `/generate/` {prompts: texts or lists of ids, n, temperature, …,
max_tokens 16, logprobs, generation_kwargs} and `/chat/` {messages: a list of conversations, …, chat_template_kwargs,
tools}; both answer {prompt_ids [P], completion_ids [P·n], logprobs [P·n][C][k], logprob_token_ids}, no text and no
finish reason. `/health/` says it is up; there is no `/v1/…`. Older servers gave log probabilities as plain numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply

KWARGS = frozenset(
    (
        *("seed", "stop", "stop_token_ids", "frequency_penalty", "presence_penalty", "min_tokens", "ignore_eos"),
        *("logit_bias", "bad_words", "allowed_token_ids", "structured_outputs", "skip_special_tokens"),
    )
)
"""Of vLLM's sampling parameters, those that tests use."""


class TrlServer:
    """Called with path and body. `older`: log probabilities as plain numbers."""

    def __init__(self, folder: Path, *, older: bool = False) -> None:
        self.small = SmallEngine(folder)
        self.older = older
        self.drops_logprob = False

    def __call__(self, path: str, body: bytes) -> StubReply:
        if path not in ("/generate/", "/chat/"):
            return StubReply(404, b'{"detail":"Not Found"}')
        said = json.loads(body)
        kwargs = said.get("generation_kwargs") or {}
        if kwargs.keys() - KWARGS:
            return StubReply(500, b"Internal Server Error")
        asked = {"n": said.get("n", 1), "max_tokens": said.get("max_tokens", 16), "logprobs": 1, **kwargs}
        asked |= {"return_token_ids": True, "temperature": said.get("temperature", 1.0)}
        if path == "/chat/":
            chat = {"messages": said["messages"][0], "tools": said.get("tools")}
            prompt: Any = self.small.prompt_of(chat | {"chat_template_kwargs": said.get("chat_template_kwargs")})
        else:
            prompt = said["prompts"][0]
        reply = self.small("/v1/completions", json.dumps(asked | {"prompt": prompt}).encode())
        if reply.status != 200:
            return StubReply(500, b"Internal Server Error")
        choices = json.loads(reply.body)["choices"]
        values = [choice["logprobs"]["token_logprobs"] for choice in choices]
        if self.drops_logprob:
            values[0].pop()
        whole = {
            "prompt_ids": [choices[0]["prompt_token_ids"]],
            "completion_ids": [choice["token_ids"] for choice in choices],
            "logprobs": values if self.older else [[[one] for one in row] for row in values],
        }
        if not self.older:
            whole["logprob_token_ids"] = [[[one] for one in choice["token_ids"]] for choice in choices]
        return StubReply(200, json.dumps(whole).encode())
