"""A call whose prompt the engine renders: the request goes on, ids asked for, and what it really saw is recorded."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.messages import tools_digest
from moorage.capture.packing import count
from moorage.capture.verdict import Facts
from moorage.capture.verdict import place as tree_place
from moorage.engines.vllm.ask import append_fields
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.parts import Parts, take_apart
from moorage.engines.vllm.reply import client_reply, read_chat, read_completion
from moorage.engines.vllm.stream import CaptureStream
from moorage.errors import FailedError, MoorageError
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.sse import error_frame
from moorage.gateway.turns import placeholders
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk
from moorage.gateway.turns.call import ModelCall
from moorage.gateway.turns.commit import Asked, Placed, commit, to_its_end
from moorage.gateway.turns.reading import ChatRead
from moorage.gateway.turns.retelling import pieces_of, retold
from moorage.gateway.turns.several import all_of
from moorage.gateway.turns.upstream import learning_of_ids, refuse_error, relay_error
from moorage.gateway.turns.whole import usage_of, whole_reply

if TYPE_CHECKING:
    from moorage.engines.contract import Directed, Generation
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import StreamedAnswer

__all__ = ["answer", "note_conversation", "place"]


async def answer(call: ModelCall) -> Reply | Stream:
    """Ask the engine, record, reply. Raises UpstreamError for its error replies; then nothing is recorded."""
    if placeholders.wanted(call):
        return await placeholders.answer(call)
    if call.ask.stream:
        return await _stream(call)
    gateway = call.gateway
    raw, parts, generation = await call.request.while_connected(_ask_once(call, call.request.body))
    if len(generation.choices) < call.ask.choices:
        raw, generation = await call.request.while_connected(_fill(call, raw, generation))
        parts = None
    body = raw if gateway.settings.full_reply else client_reply(raw, call.ask, parts)
    asked = call.asked()
    await gateway.sessions.refresh(call.live)  # another worker may have written meanwhile
    await commit(gateway, call.live, asked, generation, place(call, asked, generation), body=body)
    _remember(call, generation)
    return Reply(200, body)


async def _ask_once(call: ModelCall, body: bytes) -> tuple[bytes, Parts | None, Generation]:
    state, answered = await call.gateway.fleet.ask(
        call.path,
        lambda state: _captured(call, body, state),
        model=call.model,
        session=call.uid,
        pin=call.pin,
        lane=call.lane,
    )
    refuse_error(answered)
    read = read_chat if isinstance(call.ask, ChatAsk) else read_completion
    raw, known = answered.body, call.live.known
    with learning_of_ids(state):
        if state.dialect.retelling is not None:
            raw = retold(call, state, raw)
        parts = take_apart(raw, known)
        generation = read(raw, known=known, top_logprobs=call.wants_logprobs, parts=parts)
    return raw, parts, generation


def _captured(call: ModelCall, body: bytes, state: EndpointState) -> bytes | Directed:
    """The client's body as the endpoint is to get it, ids asked for in its dialect."""
    has_skip = call.ask.skip_reasoning is not msgspec.UNSET
    if has_skip or state.endpoint.reasoning is not None:
        body = state.endpoint.prepared(body, chat=isinstance(call.ask, ChatAsk), has_skip=has_skip)
    if state.ignores_n and call.ask.choices > 1 and not call.ask.stream:
        body = append_fields(body, [b'"n":1'])
        return state.dialect.captured(body, msgspec.structs.replace(call.ask, n=1), state.name_for(call.model))
    return state.dialect.captured(body, call.ask, state.name_for(call.model))


async def _fill(call: ModelCall, raw: bytes, generation: Generation) -> tuple[bytes, Generation]:
    """More choices, a request each, where an engine gives fewer than `n`: the first reply with all of them."""
    whole = msgspec.json.decode(raw)
    choices = list(generation.choices)
    one = append_fields(call.request.body, [b'"n":1'])
    missing = call.ask.choices - len(choices)
    for more_raw, _, more in await all_of(_ask_once(call, one) for _ in range(missing)):
        if more.prompt != generation.prompt:
            raise FailedError("the engine rendered one prompt in two ways", code="prompt_changed_by_engine")
        said = msgspec.json.decode(more_raw)
        whole["choices"].append({**said["choices"][0], "index": len(choices)})
        choices.append(msgspec.structs.replace(more.choices[0], index=len(choices)))
    filled = msgspec.structs.replace(generation, choices=tuple(choices), usage=None)
    whole["usage"] = usage_of(filled)
    return msgspec.json.encode(whole), filled


def place(call: ModelCall, asked: Asked, generation: Generation) -> Placed:
    """Where the engine's prompt stands among the session's calls; fills in the conversation of `asked`."""
    tree, tools = call.live.tree, tools_digest(asked.tools)
    matched, loose, replies = None, False, None
    if call.read is not None:
        conversation = call.read.conversation
        found = tree.match_either(conversation.keys, conversation.loose_keys, tools=tools)
        matched, covered, loose = found or (None, 0, False)
        replies = _replies_after(conversation.messages, covered)
        note_conversation(asked, call.read, covered)
    elif isinstance(call.ask, CompletionAsk) and isinstance(call.ask.prompt, str):
        asked.prompt_text = call.ask.prompt
    facts = Facts(
        tools_digest=tools,
        replies=replies,
        loose=loose,
        system_changed=call.live.takes_system(asked.system_key),
        engine_rendered=call.live.trajectory.options.get("mode") == "exact",
    )
    boundary = tree_place(tree, generation.prompt, matched=matched, facts=facts)
    return Placed(
        parent=boundary.parent.seq if boundary.parent else None,
        keep=boundary.keep,
        delta=generation.prompt[4 * boundary.keep :],
        verdict=boundary.verdict,
        reason=boundary.reason,
        mode="passthrough",
        matched=matched.seq if matched else None,
    )


def note_conversation(asked: Asked, read: ChatRead, covered: int) -> None:
    """The keys that the record keeps, and the messages that no matched node has."""
    conversation = read.conversation
    asked.prompt_key = conversation.keys[-1]
    asked.loose_prompt_key = conversation.loose_keys[-1]
    asked.messages = conversation.messages[covered:]
    asked.system_key = read.system_key


def _replies_after(messages: list[dict[str, Any]], covered: int) -> int:
    """Assistant messages that no matched call accounts for; a beginning of the reply at the end is none."""
    rest = messages[covered:]
    return sum(message["role"] == "assistant" for message in rest[:-1])


def _remember(call: ModelCall, generation: Generation) -> None:
    """The next prompt begins with this one as a rule."""
    known = call.live.known
    call.live.known = known.up_to(generation.prompt) if known is not None else Known.of(generation.prompt)


async def _stream(call: ModelCall) -> Stream:
    gateway = call.gateway
    state, streamed = await call.request.while_connected(
        gateway.fleet.open(
            call.path,
            lambda state: _captured(call, call.request.body, state),
            model=call.model,
            session=call.uid,
            pin=call.pin,
            lane=call.lane,
        )
    )
    await relay_error(streamed)
    stream = Stream(200, _frames(call, state, streamed))
    stream.at_end.append(streamed.abort)
    return stream


async def _frames(call: ModelCall, state: EndpointState, streamed: StreamedAnswer) -> AsyncGenerator[bytes, None]:
    """What the client gets; the terminal frames only when the call is durable."""
    capture = CaptureStream(
        call.ask,
        full_reply=call.gateway.settings.full_reply,
        known=call.live.known,
        top_logprobs=call.wants_logprobs,
    )
    settled = False
    try:
        async for piece in pieces_of(call, state, streamed):
            for frame in capture.feed(piece):
                yield frame
        last = capture.finish()
        settled = True
        await to_its_end(_keep(call, capture.generation(), delivered=True))
        for frame in last:
            yield frame
    except MoorageError as fault:
        settled = True
        call.gateway.log.fault(fault, request_id=call.request.id, path=call.request.path)
        yield error_frame(fault)
    finally:
        if not settled:
            await _keep_undelivered(call, capture)


async def _keep_undelivered(call: ModelCall, capture: CaptureStream) -> None:
    """The client went away: what was sampled until then is kept, and never leased."""
    try:
        generation = capture.generation(partial=True)
        if count(generation.prompt) and any(choice.ids for choice in generation.choices):
            await _keep(call, generation, delivered=False)
    except MoorageError as fault:
        call.gateway.log.fault(fault, request_id=call.request.id, path=call.request.path)


async def _keep(call: ModelCall, generation: Generation, *, delivered: bool) -> None:
    asked = call.asked()
    await call.gateway.sessions.refresh(call.live)
    placed = place(call, asked, generation)
    body = whole_reply(call, generation) if delivered else None
    await commit(call.gateway, call.live, asked, generation, placed, body=body, delivered=delivered)
    _remember(call, generation)
