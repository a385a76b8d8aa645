"""Requests to TRL's server."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.engines.contract import Directed
from moorage.engines.fields import structured_outputs
from moorage.engines.sglang.sampling import limit_of, tops_of
from moorage.engines.vllm.ask import CHAT_ONLY
from moorage.engines.vllm.asked import Asked, is_chat
from moorage.engines.vllm.known import Known

__all__ = ["captured_request", "limit", "tokens_request"]

CHAT = "/chat/"
GENERATE = "/generate/"
OWN = ("repetition_penalty", "temperature", "top_p", "top_k", "min_p")
"""Fields that it takes at the top; the others go to vLLM's sampling parameters by `generation_kwargs`."""
NOT_SAMPLING = CHAT_ONLY | frozenset(
    (
        *("model", "prompt", "n", "logprobs", "max_tokens", "stream", "stream_options", "return_token_ids", "echo"),
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "best_of", "suffix"),
        *("add_special_tokens", "truncate_prompt_tokens", "prompt_embeds", "response_format", "skip_reasoning"),
        *("request_id", "priority"),
    )
)
CHAT_LIMIT_TOKENS = 1024
"""Of a chat that names none, as Atropos's client has it; the server's own is 16."""
TEXT_LIMIT_TOKENS = 16


def captured_request(raw: bytes, asked: Asked, model: str | None) -> Directed:
    """A chat by `/chat/`, a text completion by `/generate/`. `model` is not said: the server has one."""
    del model
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    n = asked.n or 1
    if is_chat(asked):
        more = {
            name: fields[name]
            for name in ("tools", "chat_template_kwargs")
            if bytes(fields.get(name, b"null")) != b"null"
        }
        body = {"messages": [fields["messages"]], **_sampling(fields, n, None, chat=True), **more}
        return Directed(CHAT, msgspec.json.encode(body))
    body = {"prompts": [fields["prompt"]], **_sampling(fields, n, None, chat=False)}
    return Directed(GENERATE, msgspec.json.encode(body))


def tokens_request(
    raw: bytes, prompt: bytes | Known, *, model: str | None, n: int = 1, max_tokens: int | None = None
) -> Directed:
    """From token ids ([P] uint32), sampled as the client's body `raw` asks to. `max_tokens`: where it names none."""
    del model
    known = prompt if isinstance(prompt, Known) else Known.of(prompt)
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    body = {
        "prompts": [msgspec.Raw(b"[" + known.text + b"]")],
        **_sampling(fields, n, max_tokens, chat="messages" in fields),
    }
    return Directed(GENERATE, msgspec.json.encode(body))


def limit(fields: dict[str, msgspec.Raw], otherwise: int | None, *, chat: bool) -> int:
    """How many tokens are asked for at most."""
    found = limit_of(fields, otherwise)
    return found if found is not None else CHAT_LIMIT_TOKENS if chat else TEXT_LIMIT_TOKENS


def _sampling(fields: dict[str, msgspec.Raw], n: int, max_tokens: int | None, *, chat: bool) -> dict[str, Any]:
    said: dict[str, Any] = {
        "n": n,
        "max_tokens": limit(fields, max_tokens, chat=chat),
        "logprobs": tops_of(fields) or 0,
    }
    given = {name: value for name, value in fields.items() if bytes(value) != b"null"}
    said |= {name: given[name] for name in OWN if name in given}
    other: dict[str, Any] = {
        name: value for name, value in given.items() if name not in NOT_SAMPLING and name not in OWN
    }
    other |= structured_outputs(fields)
    return said | ({"generation_kwargs": other} if other else {})
