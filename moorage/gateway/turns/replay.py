"""A recorded reply again, for a retry: the same body, read from the store; as a stream when a stream was asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from moorage.capture.call import Extras
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.sse import DONE, frame
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.call import ModelCall

__all__ = ["reply_again"]


async def reply_again(call: ModelCall, seq: int) -> Reply | Stream:
    """What the request whose first call is `seq` was answered. Raises a Fault of 409 when it was not kept."""
    stored = (await call.gateway.store.extras(call.live.trajectory.uid, [seq])).get(seq, b"")
    body = bytes(msgspec.json.decode(stored, type=Extras).body) if stored else b"null"
    if body == b"null":
        raise Fault(409, "this request was answered before, and its reply was not kept", code="reply_not_kept")
    if not call.ask.stream:
        return Reply(200, body)
    return Stream(200, _frames(msgspec.json.decode(body), call))


async def _frames(body: dict[str, Any], call: ModelCall) -> AsyncGenerator[bytes, None]:
    chat = isinstance(call.ask, ChatAsk)
    head = {
        "id": body.get("id"),
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": body.get("created"),
        "model": body.get("model"),
    }
    for choice in body["choices"]:
        index, logprobs = choice["index"], choice.get("logprobs")
        said = {"delta": _delta(choice["message"])} if chat else {"text": choice["text"]}
        said |= {"token_ids": choice["token_ids"]} if "token_ids" in choice else {}
        yield frame({**head, "choices": [{"index": index, **said, "logprobs": logprobs, "finish_reason": None}]})
        end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        finish = choice.get("finish_reason")
        yield frame({**head, "choices": [{"index": index, **end, "logprobs": None, "finish_reason": finish}]})
    if call.ask.wants_usage:
        yield frame({**head, "choices": [], "usage": body.get("usage")})
    yield DONE


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    """A message as one delta: each of its calls needs an index there."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [{"index": index, **one} for index, one in enumerate(calls)]}
