"""Requests to SGLang that bring token ids back."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.packing import pack_ids
from moorage.engines.contract import Directed
from moorage.engines.sglang.sampling import sampling_params, tops_of
from moorage.engines.vllm.ask import append_fields, ids_body
from moorage.engines.vllm.asked import Asked, is_chat, wants_logprobs
from moorage.engines.vllm.known import Known

__all__ = ["GENERATE", "captured_body", "generate_request"]

GENERATE = "/generate"
IDS = [b'"return_token_ids":true', b'"return_prompt_token_ids":true', b'"return_meta_info":true']
"""Releases have had them by different names; each ignores what it does not know."""


def captured_body(raw: bytes, asked: Asked, model: str | None) -> bytes | Directed:
    """The client's chat or completion body with ids and log probabilities asked for.

    SGLang refuses to stream a chat with ids, so a chat is asked for whole.
    """
    prompt = None if is_chat(asked) else getattr(asked, "prompt", None)
    if isinstance(prompt, list):
        return generate_request(raw, pack_ids(prompt), model=model, n=asked.n or 1)
    more = list(IDS)
    if model is not None and model != asked.model:
        more.append(b'"model":' + msgspec.json.encode(model))
    if is_chat(asked):
        more += [b'"logprobs":true'] if not wants_logprobs(asked) else []
        more += [b'"stream":false,"stream_options":null'] if asked.stream else []
    else:
        more += [b'"logprobs":1'] if not asked.logprobs else []  # it takes 0 for: none
        more += [b'"stream_options":{"include_usage":true}'] if asked.stream and asked.stream_options is None else []
    return append_fields(raw, more)


def generate_request(
    raw: bytes, prompt: bytes | Known, *, model: str | None, n: int = 1, max_tokens: int | None = None
) -> Directed:
    """Its own `/generate`, from token ids ([P] uint32), sampled as the client's body `raw` asks to.

    `model` is not said: SGLang serves one, and an adapter goes by `lora_path`. `max_tokens`: where `raw` names none.
    """
    del model
    known = prompt if isinstance(prompt, Known) else Known.of(prompt)
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    asked: dict[str, Any] = {"sampling_params": sampling_params(fields, n=n, max_tokens=max_tokens)}
    asked |= {"return_logprob": True, "return_text_in_logprobs": False}
    tops = tops_of(fields)
    if tops:
        asked |= {"top_logprobs_num": tops, "return_text_in_logprobs": "prompt" in fields}
    if bytes(fields.get("stream", b"null")) == b"true":
        asked["stream"] = True
    if "lora_path" in fields:
        asked["lora_path"] = fields["lora_path"]
    return Directed(GENERATE, ids_body(b"input_ids", known, [msgspec.json.encode(asked)[1:-1]]))
