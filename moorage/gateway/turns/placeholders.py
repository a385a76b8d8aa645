"""Calls of engines that give no token ids, where that was allowed: the reply is real, the tokens are made up.

Everything says so: the reply, the record, nodes and steps have `dummy: true`. Such a call continues no other one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.engines.contract import Generation, Sampled
from moorage.engines.openai.placeholders import COMPLETION, LOGPROBS, PROMPT
from moorage.engines.vllm.ask import append_fields
from moorage.engines.vllm.events import Events, payload
from moorage.engines.vllm.faults import AbortedByEngine, UnreadableReply
from moorage.engines.vllm.pieces import MessagePieces
from moorage.errors import MoorageError
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.sse import error_frame
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk
from moorage.gateway.turns.commit import Asked, Placed, commit, to_its_end
from moorage.gateway.turns.recorded import recorded_messages
from moorage.gateway.turns.upstream import refuse_error, relay_error

if TYPE_CHECKING:
    from moorage.capture.call import Call
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import StreamedAnswer
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.call import ModelCall

__all__ = ["answer", "are_needed", "wanted", "with_texts"]

FLAG = b'"dummy":true'
PLACED = Placed(
    parent=None, keep=0, delta=PROMPT, verdict="root", reason=None, mode="passthrough", matched=None, source="dummy"
)


class _Choice(msgspec.Struct):
    index: int = 0
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Said(msgspec.Struct):
    choices: list[_Choice] = []
    model: str | None = None
    usage: dict[str, Any] | None = None


def wanted(call: ModelCall) -> bool:
    """Whether this call's tokens are to be made up."""
    if call.live.trajectory.options.get("dummy"):
        return True
    return call.gateway.settings.allow_dummy and call.live.trajectory.kind == "trajectory" and are_needed(call.gateway)


def are_needed(gateway: Gateway, pin: str | None = None) -> bool:
    """Whether no engine in question gives token ids. Raises NotFoundError for an unknown pin."""
    states = [gateway.fleet.find(pin)] if pin is not None else gateway.fleet.states()
    return bool(states) and not any(state.records for state in states)


async def answer(call: ModelCall) -> Reply | Stream:
    """Ask as the client asked, record with placeholders, reply. Raises as `passthrough.answer` does."""
    fleet = call.gateway.fleet
    if call.ask.stream:
        _, streamed = await call.request.while_connected(
            fleet.open(
                call.path,
                lambda state: _body(call, state),
                model=call.model,
                session=call.uid,
                pin=call.pin,
                lane=call.lane,
            )
        )
        await relay_error(streamed)
        stream = Stream(200, _frames(call, streamed))
        stream.at_end.append(streamed.abort)
        return stream
    _, answered = await call.request.while_connected(
        fleet.ask(
            call.path,
            lambda state: _body(call, state),
            model=call.model,
            session=call.uid,
            pin=call.pin,
            lane=call.lane,
        )
    )
    refuse_error(answered)
    try:
        said = msgspec.json.decode(answered.body, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReply(f"the engine's reply cannot be read: {error}") from None
    body = append_fields(answered.body, [FLAG])
    choices = [_sampled(one.index, one.finish_reason, one.message, one.text) for one in said.choices]
    await _keep(call, choices, said.model, said.usage, body)
    return Reply(200, body)


async def with_texts(gateway: Gateway, uid: str, nodes: list[dict[str, Any]], calls: Sequence[Call]) -> None:
    """Put the conversation in place of what placeholders decode to, `role:content` with blank lines between."""
    seqs = {call.record.call_id: call.seq for call in calls}
    for node in nodes:
        if node["metadata"].get("dummy"):
            messages = await recorded_messages(gateway.store, uid, seqs[node["metadata"]["call_id"]])
            said = [one for one in messages if isinstance(one, dict)]
            node["full_text"] = "\n\n".join(f"{one.get('role')}:{_text(one.get('content'))}" for one in said)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _body(call: ModelCall, state: EndpointState) -> bytes:
    chat, body = isinstance(call.ask, ChatAsk), call.request.body
    model = state.name_for(call.model)
    if model is not None and model != call.ask.model:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        body = msgspec.json.encode(fields | {"model": msgspec.Raw(msgspec.json.encode(model))})
    return state.endpoint.prepared(body, chat=chat, has_skip=b'"skip_reasoning"' in body)


def _sampled(index: int, finish_reason: str | None, message: dict[str, Any] | None, text: str | None) -> Sampled:
    """Raises AbortedByEngine for a choice without an end."""
    if finish_reason is None:
        raise AbortedByEngine("the engine stopped by itself (finish_reason null)")
    return Sampled(
        index=index, ids=COMPLETION, logprobs=LOGPROBS, finish_reason=finish_reason, text=text, message=message
    )


async def _keep(
    call: ModelCall, choices: Sequence[Sampled], model: str | None, usage: dict[str, Any] | None, body: bytes
) -> None:
    if not choices:
        raise UnreadableReply("the engine's reply has no choices")
    asked = call.asked()
    _note(call, asked)
    generation = Generation(prompt=PROMPT, choices=tuple(choices), model=model or "", usage=usage)
    await commit(call.gateway, call.live, asked, generation, PLACED, body=body)


def _note(call: ModelCall, asked: Asked) -> None:
    """All messages, since no earlier call is matched."""
    if call.read is not None:
        conversation = call.read.conversation
        asked.prompt_key, asked.loose_prompt_key = conversation.keys[-1], conversation.loose_keys[-1]
        asked.messages, asked.system_key = conversation.messages, call.read.system_key
    elif isinstance(call.ask, CompletionAsk) and isinstance(call.ask.prompt, str):
        asked.prompt_text = call.ask.prompt


class _Gathered:
    """What a stream said so far."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.usage: dict[str, Any] | None = None
        self._pieces: dict[int, MessagePieces] = {}
        self._texts: dict[int, list[str]] = {}
        self._ends: dict[int, str] = {}

    @property
    def ended(self) -> bool:
        return bool(self._ends)

    def add(self, event: bytes) -> None:
        """One event's JSON. Raises UnreadableReply."""
        try:
            said = msgspec.json.decode(event, type=_Said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableReply(f"an event of the engine's stream cannot be read: {error}") from None
        self.model, self.usage = said.model or self.model, said.usage or self.usage
        for choice in said.choices:
            if choice.delta is not None:
                self._pieces.setdefault(choice.index, MessagePieces()).add(choice.delta)
            if choice.text is not None:
                self._texts.setdefault(choice.index, []).append(choice.text)
            if choice.finish_reason is not None:
                self._ends[choice.index] = choice.finish_reason

    def choices(self) -> list[Sampled]:
        """Raises AbortedByEngine for a choice that did not end."""
        found = []
        for index in sorted(self._pieces.keys() | self._texts.keys()):
            message = self._pieces[index].message() if index in self._pieces else None
            text = "".join(self._texts[index]) if index in self._texts else None
            found.append(_sampled(index, self._ends.get(index), message, text))
        return found


async def _frames(call: ModelCall, streamed: StreamedAnswer) -> AsyncGenerator[bytes, None]:
    """What the client gets; from the first end on only when the call is durable."""
    events, gathered = Events(), _Gathered()
    held: list[bytes] = []
    try:
        async for piece in streamed.chunks():
            for event in events.feed(piece):
                said = payload(event)
                if said is not None and said.startswith(b"{"):
                    gathered.add(said)
                    event = b"data: %b\n\n" % append_fields(said, [FLAG])
                if gathered.ended or said == b"[DONE]":
                    held.append(event)
                else:
                    yield event
        choices = gathered.choices()
        whole = _whole(call, gathered, choices)
        await to_its_end(_keep(call, choices, gathered.model, gathered.usage, whole))
        for event in held:
            yield event
    except MoorageError as fault:
        call.gateway.log.fault(fault, request_id=call.request.id, path=call.request.path)
        yield error_frame(fault)


def _whole(call: ModelCall, gathered: _Gathered, choices: Sequence[Sampled]) -> bytes:
    """The reply as it would have been without a stream, for a retry."""
    chat = isinstance(call.ask, ChatAsk)
    said = [
        {
            "index": one.index,
            **({"message": one.message} if chat else {"text": one.text}),
            "finish_reason": one.finish_reason,
        }
        for one in choices
    ]
    body = {
        "id": ("chatcmpl-" if chat else "cmpl-") + call.request.id,
        "object": "chat.completion" if chat else "text_completion",
        "created": int(call.gateway.clock()),
        "model": gathered.model,
        "choices": said,
        "usage": gathered.usage,
        "dummy": True,
    }
    return msgspec.json.encode(body)
