"""A recorded reply, whole or as a stream: the same text, ids, log probabilities and finish reason."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import msgspec

from moorage.capture.call import Draft, Extras
from moorage.capture.chain import digest
from moorage.capture.packing import unpack_floats
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Headers, Reply, Stream
from moorage.gateway.http.sse import DONE, frame
from moorage.gateway.turns.bodies import ChatAsk
from moorage.pool.archive import Archive
from moorage.traces.calls import drafts_of
from moorage.traces.replaying.asked import Asked
from moorage.traces.replaying.recordings import Place, Sample

__all__ = ["answer"]

_Recorded = tuple[Draft, Extras]
"""One choice."""


async def answer(archive: Archive, asked: Asked, sample: Sample) -> Reply | Stream:
    """The reply of the call at `sample.place`. Raises a Fault of 500 when it is not what was recorded."""
    place = sample.place
    first = await _choice(archive, place.uid, place.seq)
    raw = bytes(first[1].body)
    if raw == b"null":
        raise _broken(place.uid, place.seq, "its reply was not kept")
    headers: Headers = (
        (b"x-moorage-trace", place.uid.encode()),
        (b"x-moorage-call", b"%d" % place.seq),
        (b"x-moorage-sample", b"%d/%d" % (sample.number, sample.of)),
    )
    body = await _completed(archive, asked, place, raw, first) if asked.wants_logprobs else None
    if asked.ask.stream:
        return Stream(200, _frames(body or msgspec.json.decode(raw), asked), headers=headers)
    return Reply(200, raw if body is None else msgspec.json.encode(body), headers=headers)


async def _completed(
    archive: Archive, asked: Asked, place: Place, raw: bytes, first: _Recorded
) -> dict[str, Any] | None:
    """The body with the log probabilities that a stream had shown and its kept body has not; None: it has them."""
    body: dict[str, Any] = msgspec.json.decode(raw)
    if all(choice.get("logprobs") is not None for choice in body["choices"]):
        return None
    rest = [await _choice(archive, place.uid, place.seq + more) for more in range(1, len(body["choices"]))]
    chat = isinstance(asked.ask, ChatAsk)
    for choice, (draft, extras) in zip(body["choices"], [first, *rest], strict=True):
        rows = msgspec.json.decode(extras.top_logprobs)
        if choice.get("logprobs") is None and rows:
            choice["logprobs"] = {"content": rows} if chat else _text_logprobs(draft, rows)
    return body


async def _choice(archive: Archive, uid: str, seq: int) -> _Recorded:
    kept = await archive.kept(uid, seq - 1, 1, extras=True)
    [draft] = drafts_of(kept) or [None]
    if draft is None or kept[0].seq != seq or kept[0].extras is None:
        raise _broken(uid, seq, "it cannot be read")
    if digest(kept[0].extras) != draft.extras_digest:
        raise _broken(uid, seq, "its extras are not those that were committed")
    return draft, msgspec.json.decode(kept[0].extras, type=Extras)


def _broken(uid: str, seq: int, why: str) -> Fault:
    return Fault(500, f"call {seq} of {uid}: {why}; moor trace verify {uid} says more", code="record_broken")


def _text_logprobs(draft: Draft, rows: list[dict[str, float] | None]) -> dict[str, Any]:
    """As text completions have them: the sampled token is the first that an engine names."""
    texts = [next(iter(row), "") if row else "" for row in rows]
    return {
        "tokens": texts,
        "token_logprobs": unpack_floats(draft.logprobs or b""),
        "top_logprobs": rows,
        "text_offset": list(itertools.accumulate(map(len, texts), initial=0))[:-1],
    }


async def _frames(body: dict[str, Any], asked: Asked) -> AsyncGenerator[bytes, None]:
    chat = isinstance(asked.ask, ChatAsk)
    head = {
        "id": body.get("id"),
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": body.get("created"),
        "model": body.get("model"),
    }
    prompt = {"prompt_token_ids": body["prompt_token_ids"]} if body.get("prompt_token_ids") else {}
    for choice in body["choices"]:
        for said in _chat_pieces(choice) if chat else _text_pieces(choice):
            piece = {"index": choice["index"], "logprobs": None, "finish_reason": None, **said}
            yield frame({**head, **prompt, "choices": [piece]})
            prompt = {}
    if asked.ask.wants_usage:
        yield frame({**head, "choices": [], "usage": body.get("usage")})
    yield DONE


def _chat_pieces(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The role, what was said, and the end; the tokens' own facts stand with what was said last."""
    message = {name: value for name, value in choice["message"].items() if value is not None}
    first = {"role": message.pop("role", "assistant"), "content": ""}
    deltas: list[dict[str, Any]] = []
    for name, value in message.items():
        if name == "tool_calls":
            deltas.append({name: [{"index": index, **one} for index, one in enumerate(value)]})
        elif isinstance(value, str) and value:
            deltas.append({name: value})
        elif value:
            first[name] = value
    deltas.sort(key=lambda delta: ("content" in delta) + 2 * ("tool_calls" in delta))
    yield {"delta": first}
    for delta in deltas[:-1]:
        yield {"delta": delta}
    if deltas:
        yield {"delta": deltas[-1], **_of_tokens(choice)}
    yield {"delta": {}, **({} if deltas else _of_tokens(choice)), **_end(choice)}


def _text_pieces(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    prompt = {"prompt_token_ids": choice["prompt_token_ids"]} if choice.get("prompt_token_ids") else {}
    yield {"text": choice["text"], **_of_tokens(choice), **prompt}
    yield {"text": "", **_end(choice)}


def _of_tokens(choice: dict[str, Any]) -> dict[str, Any]:
    ids = {"token_ids": choice["token_ids"]} if choice.get("token_ids") is not None else {}
    return {"logprobs": choice.get("logprobs"), **ids}


def _end(choice: dict[str, Any]) -> dict[str, Any]:
    return {"finish_reason": choice.get("finish_reason"), "stop_reason": choice.get("stop_reason")}
