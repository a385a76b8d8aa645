"""An exact call streamed: the engine's text completion becomes chat chunks as it comes.

Where the text has to be split into reasoning, content and tool calls, what may belong to a call or to reasoning is
held back until the end, and then given as whole deltas.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.packing import unpack_ids
from moorage.engines.contract import Generation, Sampled
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.stream import CaptureStream
from moorage.errors import FailedError, MoorageError
from moorage.gateway.http.sse import DONE, error_frame, frame
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.call import ModelCall
from moorage.gateway.turns.commit import Asked, Placed, commit, to_its_end
from moorage.gateway.turns.saying import finish_of, needs_parser, say, shown_logprobs
from moorage.gateway.turns.whole import usage_of, whole_reply

if TYPE_CHECKING:
    from moorage.engines.wire.answer import StreamedAnswer

__all__ = ["check_prompt", "frames"]


async def frames(
    call: ModelCall, asked: Asked, known: Known, placed: Placed, streamed: StreamedAnswer
) -> AsyncGenerator[bytes, None]:
    """What the client gets; the terminal frames only when the call is durable."""
    full = call.gateway.settings.full_reply
    capture = CaptureStream(call.ask, full_reply=full, known=known, top_logprobs=call.wants_logprobs)
    held = needs_parser(call)
    settled = False
    chunks = _Chunks(call)
    try:
        async for piece in streamed.chunks():
            for raw in capture.feed(piece):
                for out in chunks.texts(raw, held=held):
                    yield out
        generation = await _spoken(call, known, capture.generation())
        settled = True
        body = _body(call, generation)
        await to_its_end(commit(call.gateway, call.live, asked, generation, placed, body=body))
        call.live.known = known.plus(generation.choices[0].ids)
        for out in chunks.ends(generation, capture.finish(), held=held):
            yield out
    except MoorageError as fault:
        settled = True
        call.gateway.log.fault(fault, request_id=call.request.id, path=call.request.path)
        yield error_frame(fault)
    finally:
        if not settled:
            await _keep_undelivered(call, asked, placed, capture)


def check_prompt(sent: bytes, generation: Generation) -> None:
    """Raises FailedError when the engine says that it was given other ids than were sent, [P] uint32."""
    if generation.prompt != sent:
        raise FailedError(
            "the engine was given other tokens than were sent: nothing was recorded",
            code="prompt_changed_by_engine",
            hint="use mode passthrough with this engine",
        )


async def _spoken(call: ModelCall, known: Known, generation: Generation) -> Generation:
    check_prompt(known.ids, generation)
    choices = tuple([await say(call, choice) for choice in generation.choices])
    return msgspec.structs.replace(generation, choices=choices, usage=None)


def _body(call: ModelCall, generation: Generation) -> bytes:
    return whole_reply(call, generation, logprobs=shown_logprobs(call, generation), extra=call.extra_fields())


async def _keep_undelivered(call: ModelCall, asked: Asked, placed: Placed, capture: CaptureStream) -> None:
    try:
        generation = capture.generation(partial=True)
        if any(choice.ids for choice in generation.choices):
            await commit(call.gateway, call.live, asked, generation, placed, delivered=False)
    except MoorageError as fault:
        call.gateway.log.fault(fault, request_id=call.request.id, path=call.request.path)


class _Chunks:
    """The client's frames of one stream."""

    def __init__(self, call: ModelCall) -> None:
        self._call = call
        self._chat = isinstance(call.ask, ChatAsk)
        self._begun: set[int] = set()
        self._head = {
            "id": ("chatcmpl-" if self._chat else "cmpl-") + call.request.id,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": int(call.gateway.clock()),
            "model": call.ask.model or "",
        }

    def texts(self, raw: bytes, *, held: bool) -> list[bytes]:
        """Frames for one event of the engine's completion stream."""
        if not raw.startswith(b"data: {"):
            return []
        event = msgspec.json.decode(raw[6:])
        self._head["model"] = event.get("model") or self._head["model"]
        out = []
        for choice in event.get("choices", ()):
            index, text = choice["index"], choice.get("text") or ""
            ids = choice.get("token_ids") if self._call.shows_ids else None
            if index not in self._begun:
                self._begun.add(index)
                out.extend(self._first(index, choice))
            if (text or ids) and not held:
                said = {"delta": {"content": text}} if self._chat else {"text": text}
                out.append(self._frame(index, said if ids is None else {**said, "token_ids": ids}))
        return out

    def _first(self, index: int, choice: dict[str, Any]) -> list[bytes]:
        """What comes before a choice's text: chat's role, and the prompt's ids for a client that asked."""
        prompt = {"prompt_token_ids": choice.get("prompt_token_ids")} if self._call.shows_ids else {}
        if self._chat:
            return [self._frame(index, {"delta": {"role": "assistant", "content": ""}}, **prompt)]
        return [self._frame(index, {"text": "", **prompt})] if prompt else []

    def ends(self, generation: Generation, last: list[bytes], *, held: bool) -> list[bytes]:
        """What was held back, the finish reasons, usage when asked for, and `[DONE]`.

        `last`: the engine's terminal events, which may have text: its last token's, or all that it gave at once.
        """
        out = [one for raw in last for one in self.texts(raw, held=held)]
        logprobs = shown_logprobs(self._call, generation)
        for position, choice in enumerate(generation.choices):
            if held:
                out.extend(self._frame(choice.index, {"delta": delta}) for delta in _deltas(choice))
            end: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
            end["logprobs"] = logprobs[position] if logprobs else None
            end["finish_reason"] = finish_of(choice)
            end["stop_reason"] = choice.stop_reason
            if held and self._call.shows_ids:
                end["token_ids"] = unpack_ids(choice.ids)
            out.append(self._frame(choice.index, end))
        if self._call.ask.wants_usage:
            out.append(frame({**self._head, "choices": [], "usage": usage_of(generation)}))
        return [*out, DONE]

    def _frame(self, index: int, said: dict[str, Any], **top: Any) -> bytes:
        choice = {"index": index, "logprobs": None, "finish_reason": None, **said}
        return frame({**self._head, **self._call.extra_fields(), **top, "choices": [choice]})


def _deltas(choice: Sampled) -> list[dict[str, Any]]:
    message = choice.message or {}
    deltas = []
    for field in ("reasoning", "content"):
        if message.get(field):
            deltas.append({field: message[field]})
    if message.get("tool_calls"):
        calls = [{"index": index, **one} for index, one in enumerate(message["tool_calls"])]
        deltas.append({"tool_calls": calls})
    return deltas
