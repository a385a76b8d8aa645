"""Requests to vLLM: the client's own JSON with what capture needs added, or token ids in place of its messages.

Nothing of the client's body is decoded and encoded again but what must change. JSON's last key wins, in vLLM as in
every reader of ours, so additions are appended.
"""

from __future__ import annotations

import msgspec

from moorage.engines.vllm.asked import Asked, is_chat, wants_ids, wants_logprobs
from moorage.engines.vllm.known import Known

__all__ = ["CHAT_ONLY", "append_fields", "capture_body", "ids_body", "tokens_body"]

CHAT_ONLY = frozenset(
    (
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "max_completion_tokens",
        "top_logprobs",
        "chat_template",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "documents",
        "reasoning_effort",
        "include_reasoning",
        "mm_processor_kwargs",
        "media_io_kwargs",
    )
)
"""Fields that say what the prompt's text is, or have another name in completions."""

OURS = frozenset(
    (
        "model",
        "prompt",
        "n",
        "logprobs",
        "stream_options",
        "return_token_ids",
        "skip_reasoning",
        # Each of these would make the prompt, or what is said of it, another than the ids that are sent.
        "echo",
        "add_special_tokens",
        "truncate_prompt_tokens",
        "prompt_embeds",
        "suffix",
    )
)

CHAT_OR_OURS = CHAT_ONLY | OURS

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])

SPACE = b" \t\n\r"
"""What JSON takes for white space."""


def capture_body(raw: bytes, asked: Asked, model: str | None) -> bytes:
    """The client's chat or completion body, with ids and log probabilities asked for.

    `raw` must be a JSON object (`asked` was decoded from it). `model`: what it is called there; None leaves it.
    """
    more: list[bytes] = []
    if model is not None and model != asked.model:
        more.append(b'"model":' + msgspec.json.encode(model))
    if not wants_ids(asked):
        more.append(b'"return_token_ids":true')
    if not wants_logprobs(asked):
        more.append(b'"logprobs":true' if is_chat(asked) else b'"logprobs":0')
    if asked.stream and asked.stream_options is None:
        more.append(b'"stream_options":{"include_usage":true}')
    return append_fields(raw, more)


def append_fields(raw: bytes, fields: list[bytes]) -> bytes:
    """A JSON object's text with more fields (`"name":value`) at its end."""
    if not fields:
        return raw
    end = raw.rindex(b"}")
    while raw[end - 1] in SPACE:
        end -= 1
    comma = b"" if raw[end - 1 : end] == b"{" else b","
    return b"".join((memoryview(raw)[:end], comma, b",".join(fields), b"}"))


def ids_body(key: bytes, known: Known, fields: list[bytes]) -> bytes:
    """A JSON object of token ids, named `key`, and of at least one more field; long ids are copied once."""
    return b"".join((b'{"', key, b'":[', known.text, b"],", b",".join(fields), b"}"))


def tokens_body(
    raw: bytes,
    prompt: bytes | Known,
    *,
    model: str | None,
    n: int = 1,
    max_tokens: int | None = None,
) -> bytes:
    """A `/v1/completions` body that samples from token ids as the client's chat or completion body `raw` asks to.

    `prompt`: [P] uint32, or Known when much of its text is at hand. `max_tokens`: where the client names none; None
    leaves it to the engine, which means 16 there.
    """
    known = prompt if isinstance(prompt, Known) else Known.of(prompt)
    fields = _FIELDS.decode(raw)
    chat = "messages" in fields
    more = _limits(fields, max_tokens, chat=chat)
    tops = _logprobs(fields, chat=chat)
    more += [b'"n":%d' % n, b'"logprobs":%d' % tops, b'"return_token_ids":true']
    if chat and tops:
        # Two tokens may have the same text; with their ids as names none of the alternatives is lost.
        more.append(b'"return_tokens_as_token_ids":true')
    if bytes(fields.get("stream", b"null")) == b"true":
        more.append(b'"stream_options":{"include_usage":true}')
    if model is not None:
        more.append(b'"model":' + msgspec.json.encode(model))
    elif "model" in fields:
        more.append(b'"model":' + bytes(fields["model"]))
    drop = CHAT_OR_OURS if chat else OURS
    kept = {name: value for name, value in fields.items() if name not in drop}
    return ids_body(b"prompt", known, [msgspec.json.encode(kept)[1:-1], *more] if kept else more)


def _limits(fields: dict[str, msgspec.Raw], max_tokens: int | None, *, chat: bool) -> list[bytes]:
    """`max_completion_tokens` is chat's name for it and comes before the old one."""
    given = fields.get("max_completion_tokens") if chat else None
    if given is None or bytes(given) == b"null":
        given = fields.get("max_tokens")
    elif "max_tokens" in fields:
        del fields["max_tokens"]
    if given is None or bytes(given) == b"null":
        fields.pop("max_tokens", None)
        return [] if max_tokens is None else [b'"max_tokens":%d' % max_tokens]
    fields.pop("max_tokens", None)
    return [b'"max_tokens":' + bytes(given)]


def _logprobs(fields: dict[str, msgspec.Raw], *, chat: bool) -> int:
    """How many alternatives a token the client wants to see."""
    wanted = fields.get("logprobs")
    if wanted is None or bytes(wanted) in (b"null", b"false"):
        return 0
    number = fields.get("top_logprobs") if chat else wanted
    try:
        return max(0, msgspec.json.decode(number, type=int)) if number is not None else 0
    except msgspec.DecodeError:
        return 0
