"""Several choices on the open routes, of an endpoint that gives one whatever `n` says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from moorage.engines.vllm.ask import append_fields
from moorage.engines.wire.answer import Answer
from moorage.gateway.turns.several import all_of
from moorage.gateway.turns.upstream import refuse_error

__all__ = ["filled", "one_choice"]


def one_choice(body: bytes) -> bytes:
    """The request for one choice."""
    return append_fields(body, [b'"n":1'])


async def filled(reply: bytes, wanted: int, ask: Callable[[], Awaitable[Answer]]) -> bytes:
    """The reply with `wanted` choices, 0 … wanted-1, and the tokens of all; untouched where it has them.

    `ask` gets one more. Raises UpstreamError for an error among those.
    """
    try:
        whole = msgspec.json.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return reply
    choices = whole.get("choices") if isinstance(whole, dict) else None
    if not isinstance(choices, list) or len(choices) >= wanted:
        return reply

    async def more() -> dict[str, Any]:
        answered = await ask()
        refuse_error(answered)
        said: dict[str, Any] = msgspec.json.decode(answered.body)
        return said

    for said in await all_of(more() for _ in range(wanted - len(choices))):
        choices.append(said["choices"][0])
        _add(whole, said)
    for index, choice in enumerate(choices):
        choice["index"] = index
    return msgspec.json.encode(whole)


def _add(whole: dict[str, Any], said: dict[str, Any]) -> None:
    """What was sampled is added up; the prompt was one."""
    usage, more = whole.get("usage"), said.get("usage")
    if isinstance(usage, dict) and isinstance(more, dict):
        sampled = more.get("completion_tokens") or 0
        usage["completion_tokens"] = (usage.get("completion_tokens") or 0) + sampled
        usage["total_tokens"] = (usage.get("total_tokens") or 0) + sampled
