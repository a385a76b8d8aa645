"""What the stub answers: the bodies that vLLM 0.32 sends when token ids and log probabilities are asked for."""

from __future__ import annotations

import json
import re
from typing import Any

from bench.gateway.speech import Answer

__all__ = [
    "MODEL",
    "Form",
    "chat_chunks",
    "chat_form",
    "completion_chunks",
    "completion_form",
    "generate_form",
    "models_body",
]

MODEL = "bench"
CREATED = 1_780_000_000
IDS, PROMPT, TOTAL = "@ids@", "@prompt@", "@total@"
"""Stand in a form for the prompt's ids, their number, and that of all tokens."""


class Form:
    """A body in which the prompt's ids and the counts are left open."""

    def __init__(self, value: dict[str, Any]) -> None:
        parts = re.split(f'"({IDS}|{PROMPT}|{TOTAL})"', _json(value))
        self._parts = [part.encode() for part in parts]
        self._sampled = value["usage"]["completion_tokens"] if "usage" in value else 0

    def fill(self, prompt_ids: bytes) -> bytes:
        """`prompt_ids` is a JSON array of at least one id."""
        count = prompt_ids.count(b",") + 1
        found = {
            IDS.encode(): prompt_ids,
            PROMPT.encode(): b"%d" % count,
            TOTAL.encode(): b"%d" % (count + self._sampled),
        }
        return b"".join([found.get(part, part) for part in self._parts])


def chat_form(answer: Answer) -> Form:
    """The whole reply to a chat."""
    choice = {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": answer.text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [],
            "reasoning": None,
        },
        "logprobs": {"content": _entries(answer, 0, len(answer.ids))},
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": answer.ids,
    }
    return Form(
        {
            **_head("chatcmpl", "chat.completion"),
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": "vllm-0.32.0-00000000",
            "usage": _usage(answer),
            "prompt_logprobs": None,
            "prompt_token_ids": IDS,
            "kv_transfer_params": None,
        }
    )


def completion_form(answer: Answer) -> Form:
    """The whole reply to a text completion."""
    offsets = [sum(len(piece) for piece in answer.pieces[:place]) for place in range(len(answer.pieces))]
    choice = {
        "index": 0,
        "text": answer.text,
        "logprobs": {
            "text_offset": offsets,
            "token_logprobs": answer.logprobs,
            "tokens": answer.pieces,
            "top_logprobs": [{piece: value} for piece, value in zip(answer.pieces, answer.logprobs, strict=True)],
        },
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": answer.ids,
        "prompt_logprobs": None,
        "prompt_token_ids": IDS,
    }
    return Form(
        {
            **_head("cmpl", "text_completion"),
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": "vllm-0.32.0-00000000",
            "usage": _usage(answer),
            "kv_transfer_params": None,
        }
    )


def generate_form(answer: Answer) -> Form:
    """What Atropos's own vLLM server answers on `/generate`."""
    rows = [[{str(token): value}] for token, value in zip(answer.ids, answer.logprobs, strict=True)]
    return Form(
        {
            "text": [answer.text],
            "prompt": "",
            "finish_reasons": ["stop"],
            "logprobs": [rows],
            "prompt_token_ids": IDS,
            "token_ids": [answer.ids],
        }
    )


def chat_chunks(answer: Answer, prompt_ids: bytes, usage: bool) -> list[bytes]:
    """The events of a streamed chat: the role, one a token, the end."""
    head = _head("chatcmpl", "chat.completion.chunk")
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    events: list[dict[str, Any]] = [{**head, "choices": [role], "prompt_token_ids": json.loads(prompt_ids)}]
    last = len(answer.ids) - 1
    for place, token in enumerate(answer.ids):
        choice = {
            "index": 0,
            "delta": {"content": answer.pieces[place] if place < last else ""},
            "logprobs": {"content": _entries(answer, place, place + 1)},
            "finish_reason": "stop" if place == last else None,
            "token_ids": [token],
        }
        events.append({**head, "choices": [choice]})
    return _frames(events, _final_usage(head, answer, prompt_ids) if usage else None)


def completion_chunks(answer: Answer, prompt_ids: bytes, usage: bool) -> list[bytes]:
    """The events of a streamed completion."""
    head = _head("cmpl", "text_completion")
    last = len(answer.ids) - 1
    events: list[dict[str, Any]] = []
    for place, token in enumerate(answer.ids):
        piece, value = answer.pieces[place], answer.logprobs[place]
        choice = {
            "index": 0,
            "text": piece if place < last else "",
            "logprobs": {
                "text_offset": [0],
                "token_logprobs": [value],
                "tokens": [piece],
                "top_logprobs": [{piece: value}],
            },
            "finish_reason": "stop" if place == last else None,
            "stop_reason": None,
            "prompt_token_ids": json.loads(prompt_ids) if place == 0 else None,
            "token_ids": [token],
        }
        events.append({**head, "choices": [choice]})
    return _frames(events, _final_usage(head, answer, prompt_ids) if usage else None)


def models_body() -> bytes:
    model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "vllm", "root": MODEL, "parent": None}
    return _json({"object": "list", "data": [{**model, "max_model_len": 65536}]}).encode()


def _head(prefix: str, kind: str) -> dict[str, Any]:
    return {"id": f"{prefix}-0123456789abcdef0123456789abcdef", "object": kind, "created": CREATED, "model": MODEL}


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT,
        "total_tokens": TOTAL,
        "completion_tokens": len(answer.ids),
        "prompt_tokens_details": None,
    }


def _entries(answer: Answer, begin: int, end: int) -> list[dict[str, Any]]:
    return [
        {
            "token": answer.pieces[place],
            "logprob": answer.logprobs[place],
            "bytes": list(answer.pieces[place].encode()),
            "top_logprobs": [],
        }
        for place in range(begin, end)
    ]


def _final_usage(head: dict[str, Any], answer: Answer, prompt_ids: bytes) -> dict[str, Any]:
    prompt, sampled = prompt_ids.count(b",") + 1, len(answer.ids)
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + sampled, "completion_tokens": sampled}
    return {**head, "choices": [], "usage": usage}


def _frames(events: list[dict[str, Any]], usage: dict[str, Any] | None) -> list[bytes]:
    found = [f"data: {_json(event)}\n\n".encode() for event in events]
    if usage:
        found.append(f"data: {_json(usage)}\n\n".encode())
    return [*found, b"data: [DONE]\n\n"]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
