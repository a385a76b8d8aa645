"""`/inference/v1/generate`: tokens in, tokens out, with the weights that sampled each of them.

Engines offer it when started with `--enable-scale-out`; others answer 403 or 404.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.engines.fields import structured_outputs
from moorage.engines.vllm.ask import ids_body
from moorage.engines.vllm.known import Known

__all__ = ["PATH", "generate_body", "is_closed"]

PATH = "/inference/v1/generate"
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "stop_token_ids",
    "bad_words",
    "ignore_eos",
    "include_stop_str_in_output",
    "min_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "allowed_token_ids",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "structured_outputs",
)
"""The fields of a chat or completion request that mean the same in its sampling parameters."""


def is_closed(status: int) -> bool:
    """Whether an error status says that this engine does not offer it."""
    return status in (403, 404, 405)


def generate_body(
    raw: bytes,
    prompt: bytes | Known,
    *,
    model: str | None,
    n: int = 1,
    max_tokens: int | None = None,
    logprobs: int = 0,
) -> bytes:
    """A body that samples from token ids as the client's chat or completion body `raw` asks to.

    `prompt`: [P] uint32 or Known. `max_tokens`: where the client names none; None leaves it to the engine. `logprobs`:
    alternatives a token.
    """
    known = prompt if isinstance(prompt, Known) else Known.of(prompt)
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    sampling: dict[str, Any] = {
        name: fields[name] for name in SAMPLING if name in fields and bytes(fields[name]) != b"null"
    }
    for name in ("max_tokens", "max_completion_tokens"):
        if bytes(fields.get(name, b"null")) != b"null":
            sampling["max_tokens"] = fields[name]
    if max_tokens is not None:
        sampling.setdefault("max_tokens", max_tokens)
    sampling |= {"n": n, "logprobs": logprobs} | structured_outputs(fields)
    more = [b'"sampling_params":' + msgspec.json.encode(sampling)]
    if bytes(fields.get("stream", b"null")) == b"true":
        more.append(b'"stream":true,"stream_options":{"include_usage":true}')
    if model is not None:
        more.append(b'"model":' + msgspec.json.encode(model))
    return ids_body(b"token_ids", known, more)
