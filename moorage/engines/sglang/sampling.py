"""OpenAI's sampling fields under SGLang's names."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.engines.fields import demanded_schema, field
from moorage.engines.vllm.ask import CHAT_ONLY

__all__ = ["limit_of", "sampling_params", "tops_of"]

RENAMED = {"seed": "sampling_seed", "min_tokens": "min_new_tokens"}
NOT_SAMPLING = CHAT_ONLY | frozenset(
    (
        *("model", "prompt", "n", "logprobs", "max_tokens", "stream", "stream_options", "return_token_ids", "echo"),
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "best_of", "suffix"),
        *("add_special_tokens", "truncate_prompt_tokens", "prompt_embeds", "response_format", "skip_reasoning"),
        *("request_id", "priority", "lora_path", "include_stop_str_in_output", "structured_outputs", "guided_json"),
    )
)
"""Fields that say nothing of how to sample, or are said in another way here."""
TOP_LEVEL = ("lora_path", "priority")


def sampling_params(fields: dict[str, msgspec.Raw], *, n: int, max_tokens: int | None) -> dict[str, Any]:
    """`sampling_params` of `/generate`. What SGLang has no name for it refuses by itself, so nothing is lost unsaid.

    `max_tokens`: where the request names none.
    """
    params: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in NOT_SAMPLING and bytes(value) != b"null":
            params[RENAMED.get(name, name)] = value
    limit = limit_of(fields, max_tokens)
    if limit is not None:
        params["max_new_tokens"] = limit
    if n > 1:
        params["n"] = n
    if bytes(fields.get("include_stop_str_in_output", b"null")) == b"true":
        params["no_stop_trim"] = True
    return params | _structured(fields)


def limit_of(fields: dict[str, msgspec.Raw], otherwise: int | None) -> int | None:
    """`max_completion_tokens`, else `max_tokens`, else `otherwise`."""
    for name in ("max_completion_tokens", "max_tokens"):
        given = field(fields, name)
        if isinstance(given, int):
            return given
    return otherwise


def tops_of(fields: dict[str, msgspec.Raw]) -> int | None:
    """How many alternatives a token the client wants to see; None: it does not ask for log probabilities."""
    wanted = field(fields, "logprobs")
    if wanted is None or wanted is False:
        return None
    number = field(fields, "top_logprobs") if wanted is True else wanted
    return number if isinstance(number, int) else 0


def _structured(fields: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """OpenAI's `response_format` and vLLM's structured outputs; SGLang takes a schema as text."""
    schema = demanded_schema(fields)
    if schema is not None:
        return {"json_schema": '{"type": "object"}' if schema is True else msgspec.json.encode(schema).decode()}
    outputs = field(fields, "structured_outputs")
    if not isinstance(outputs, dict):
        return {}
    if outputs.get("json") is not None:
        given = outputs["json"]
        return {"json_schema": given if isinstance(given, str) else msgspec.json.encode(given).decode()}
    return {name: outputs[key] for key, name in (("regex", "regex"), ("grammar", "ebnf")) if outputs.get(key)}
