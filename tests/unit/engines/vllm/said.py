"""Replies as vLLM would give them, with whatever texts and ids a test draws; requests as the gateway decodes them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st


class Request(NamedTuple):
    """A decoded completion request."""

    model: str | None = None
    stream: bool | None = None
    stream_options: Any = None
    n: int | None = None
    return_token_ids: bool | None = None
    logprobs: bool | int | None = None
    wants_usage: bool = False


class ChatRequest(NamedTuple):
    """A decoded chat request."""

    messages: tuple[Any, ...] = ()
    model: str | None = None
    stream: bool | None = None
    stream_options: Any = None
    n: int | None = None
    return_token_ids: bool | None = None
    logprobs: bool | int | None = None
    wants_usage: bool = False


NASTY = st.sampled_from(
    [
        '"token_ids":[1,2]',
        ',"prompt_token_ids":[7]',
        '},"finish_reason":"stop"',
        '"logprobs":{"content":[',
        "\\",
        '\\"',
        "]}]}",
        "\n\n",
        "data: [DONE]",
        "\u2028",
        "🎉",
    ]
)
TEXT = st.one_of(st.text(max_size=12), NASTY, st.builds(lambda a, b: a + b, NASTY, NASTY))
IDS = st.lists(st.integers(0, 2**32 - 1), max_size=8)
LOGPROB = st.floats(-1e4, 0, allow_nan=False)


@st.composite
def choices(draw: st.DrawFn, *, chat: bool, index: int = 0) -> dict[str, Any]:
    """One choice, in vLLM's order of fields."""
    ids = draw(IDS)
    values = [draw(LOGPROB) for _ in ids]
    texts = [draw(TEXT) for _ in ids]
    if chat:
        said: dict[str, Any] = {"message": {"role": "assistant", "content": draw(TEXT), "reasoning": draw(TEXT)}}
        rows = [
            {"token": text, "logprob": value, "bytes": list(text.encode("utf-8", "replace")), "top_logprobs": []}
            for text, value in zip(texts, values, strict=True)
        ]
        logprobs: dict[str, Any] = {"content": rows}
    else:
        said = {"text": draw(TEXT)}
        tops = [{text: value} for text, value in zip(texts, values, strict=True)]
        logprobs = {"text_offset": [0] * len(ids), "token_logprobs": values, "tokens": texts, "top_logprobs": tops}
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    end = {
        "finish_reason": reason,
        "stop_reason": draw(st.one_of(st.none(), st.integers(0, 9), TEXT)),
        "token_ids": ids,
    }
    return {"index": index, **said, "logprobs": logprobs, **end}


@st.composite
def replies(draw: st.DrawFn, *, chat: bool) -> dict[str, Any]:
    """A whole reply."""
    prompt = draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12))
    said = [draw(choices(chat=chat, index=index)) for index in range(draw(st.integers(1, 3)))]
    if not chat:
        said = [{**one, "prompt_logprobs": None, "prompt_token_ids": prompt} for one in said]
    head = {"id": "x", "object": "chat.completion" if chat else "text_completion", "created": 1, "model": draw(TEXT)}
    sampled = sum(len(one["token_ids"]) for one in said)
    usage = {"prompt_tokens": len(prompt), "total_tokens": len(prompt) + sampled, "completion_tokens": sampled}
    body = {**head, "choices": said, "usage": usage}
    return {**body, "prompt_logprobs": None, "prompt_token_ids": prompt} if chat else body


def dump(value: Any, style: str = "compact") -> bytes:
    """As vLLM writes JSON, or as others do."""
    if style == "compact":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return json.dumps(value, indent=1 if style == "indented" else None).encode()
