"""An exact call streamed: the engine's text completion becomes chat chunks as it comes.

Where the text has to be split into reasoning, content and tool calls, the parser process splits it while it comes
(`splitting`); what it cannot say yet, or ever, is held back until the end. The whole reply decides what is recorded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from moorage.capture.packing import unpack_ids
from moorage.engines.contract import Generation, Sampled
from moorage.engines.parsing.told import Disagrees
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.stream import CaptureStream
from moorage.errors import FailedError, MoorageError
from moorage.gateway.http.sse import DONE, error_frame, frame
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.call import ModelCall
from moorage.gateway.turns.commit import Asked, Placed, commit, to_its_end
from moorage.gateway.turns.retelling import pieces_of
from moorage.gateway.turns.saying import finish_of, is_held, say, shown_logprobs
from moorage.gateway.turns.splitting import LiveSplit
from moorage.gateway.turns.whole import usage_of, whole_reply

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import StreamedAnswer

__all__ = ["check_prompt", "frames"]


async def frames(
    call: ModelCall, asked: Asked, known: Known, placed: Placed, state: EndpointState, streamed: StreamedAnswer
) -> AsyncGenerator[bytes, None]:
    """What the client gets; the terminal frames only when the call is durable."""
    held = is_held(call)
    live = LiveSplit.of(call, known.ids) if held else None
    full = call.gateway.settings.full_reply or live is not None  # parsers go by ids
    capture = CaptureStream(call.ask, full_reply=full, known=known, top_logprobs=call.wants_logprobs)
    settled = False
    chunks = _Chunks(call)
    try:
        async for piece in pieces_of(call, state, streamed, prompt=known):
            events = _events(capture.feed(piece))
            for out in chunks.texts(events, held=held):
                yield out
            if live is not None:
                for out in chunks.deltas(await live.feed(events)):
                    yield out
        generation = await _spoken(call, known, capture.generation())
        last = _events(capture.finish())
        rest = await _rest(live, generation, last) if held else Rest(generation, [], None)
        settled = True
        body = _body(call, rest.generation)
        await to_its_end(commit(call.gateway, call.live, asked, rest.generation, placed, body=body))
        call.live.known = known
        if rest.fault is not None:
            raise rest.fault
        for out in chunks.ends(rest, last, held=held):
            yield out
    except MoorageError as fault:
        settled = True
        call.gateway.log.fault(fault, request_id=call.request.id, path=call.request.path)
        yield error_frame(fault)
    finally:
        if not settled:
            await _keep_undelivered(call, asked, placed, capture)
        if live is not None:
            live.close()


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


async def _rest(live: LiveSplit | None, generation: Generation, last: list[dict[str, Any]]) -> Rest:
    """What is recorded, and what of it the client does not know yet."""
    if live is None:
        return Rest(generation, [(one.index, delta) for one in generation.choices for delta in _deltas(one)], None)
    deltas = await live.feed(last)
    choices: list[Sampled] = []
    fault: MoorageError | None = None
    for choice in generation.choices:
        try:
            choice, delta = live.settle(choice)
        except Disagrees as disagrees:
            fault = disagrees
        else:
            deltas += [(choice.index, delta)] if delta else []
        choices.append(choice)
    return Rest(msgspec.structs.replace(generation, choices=tuple(choices)), deltas, fault)


def _events(raws: list[bytes]) -> list[dict[str, Any]]:
    """The engine's events of a completion stream; `[DONE]` and comments are none."""
    return [msgspec.json.decode(raw[6:]) for raw in raws if raw.startswith(b"data: {")]


class Rest(NamedTuple):
    """The end of a stream."""

    generation: Generation
    """As it is recorded."""
    deltas: list[tuple[int, dict[str, Any]]]
    """Of a choice, by its index; in order."""
    fault: MoorageError | None
    """What was told is not what is recorded."""


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

    def texts(self, events: list[dict[str, Any]], *, held: bool) -> list[bytes]:
        """Frames for events of the engine's completion stream. `held`: their text is told in another way."""
        out = []
        for event in events:
            self._head["model"] = event.get("model") or self._head["model"]
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

    def deltas(self, found: list[tuple[int, dict[str, Any]]]) -> list[bytes]:
        """Frames for what a parser found, each with its choice's index."""
        return [self._frame(index, {"delta": delta}) for index, delta in found]

    def _first(self, index: int, choice: dict[str, Any]) -> list[bytes]:
        """What comes before a choice's text: chat's role, and the prompt's ids for a client that asked."""
        prompt = {"prompt_token_ids": choice.get("prompt_token_ids")} if self._call.shows_ids else {}
        if self._chat:
            return [self._frame(index, {"delta": {"role": "assistant", "content": ""}}, **prompt)]
        return [self._frame(index, {"text": "", **prompt})] if prompt else []

    def ends(self, rest: Rest, last: list[dict[str, Any]], *, held: bool) -> list[bytes]:
        """What was held back, the finish reasons, usage when asked for, and `[DONE]`.

        `last`: the engine's terminal events, which may have text: its last token's, or all that it gave at once.
        """
        out = self.texts(last, held=held)
        out.extend(self.deltas(rest.deltas))
        logprobs = shown_logprobs(self._call, rest.generation)
        for position, choice in enumerate(rest.generation.choices):
            end: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
            end["logprobs"] = logprobs[position] if logprobs else None
            end["finish_reason"] = finish_of(choice)
            end["stop_reason"] = choice.stop_reason
            if held and self._call.shows_ids:
                end["token_ids"] = unpack_ids(choice.ids)
            out.append(self._frame(choice.index, end))
        if self._call.ask.wants_usage:
            out.append(frame({**self._head, "choices": [], "usage": usage_of(rest.generation)}))
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
