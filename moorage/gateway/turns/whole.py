"""A whole OpenAI reply made from what was sampled: for exact calls, and of a stream for the record."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.packing import count, unpack_ids
from moorage.engines.contract import Generation, Sampled
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.call import ModelCall
from moorage.gateway.turns.saying import finish_of

__all__ = ["usage_of", "whole_reply"]


def whole_reply(
    call: ModelCall, generation: Generation, *, logprobs: list[Any] | None = None, extra: dict[str, Any] | None = None
) -> bytes:
    """The reply's JSON. `logprobs`: what each choice shows, when the client asked; `extra`: fields at the top."""
    chat = isinstance(call.ask, ChatAsk)
    prefix = "chatcmpl-" if chat else "cmpl-"
    body = {
        "id": prefix + call.request.id,
        "object": "chat.completion" if chat else "text_completion",
        "created": int(call.gateway.clock()),
        "model": generation.model,
        "choices": [
            _choice(choice, chat, logprobs[position] if logprobs else None, ids=call.shows_ids)
            for position, choice in enumerate(generation.choices)
        ],
        "usage": generation.usage or usage_of(generation),
        **({"prompt_token_ids": unpack_ids(generation.prompt)} if call.shows_ids and chat else {}),
        **(extra or {}),
    }
    return msgspec.json.encode(body)


def usage_of(generation: Generation) -> dict[str, int]:
    """OpenAI's token counts."""
    prompt_tokens = count(generation.prompt)
    completion_tokens = sum(count(choice.ids) for choice in generation.choices)
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def _choice(choice: Sampled, chat: bool, logprobs: Any, *, ids: bool) -> dict[str, Any]:
    said = {"message": choice.message} if chat else {"text": choice.text or ""}
    return {
        "index": choice.index,
        **said,
        "logprobs": logprobs,
        "finish_reason": finish_of(choice),
        "stop_reason": choice.stop_reason,
        **({"token_ids": unpack_ids(choice.ids)} if ids else {}),
    }
