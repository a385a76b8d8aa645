"""The open model routes: by model name over all endpoints, bodies and replies untouched, nothing recorded."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.errors import MoorageError
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.request import Request
from moorage.gateway.http.sse import error_frame
from moorage.gateway.routes import open_retold, open_several
from moorage.gateway.routes.models_list import model_reply, models_reply
from moorage.gateway.turns.bodies import MAX_N
from moorage.gateway.turns.lanes import lane_of
from moorage.gateway.turns.upstream import relay_error

if TYPE_CHECKING:
    from moorage.engines.contract import Directed
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import Answer, StreamedAnswer
    from moorage.gateway.gateway import Gateway

__all__ = ["chat", "completions", "embeddings", "model", "models"]

EMBEDDINGS = "/v1/embeddings"


class Peek(msgspec.Struct, frozen=True):
    """All that is read of a body that passes."""

    model: str | None = None
    stream: bool | None = None
    n: Any = None
    skip_reasoning: Any = msgspec.UNSET


async def chat(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /v1/chat/completions`."""
    passing = _pass if gateway.serving is None else _counted
    return await passing(gateway, request, "/v1/chat/completions", chat=True)


async def completions(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /v1/completions`."""
    passing = _pass if gateway.serving is None else _counted
    return await passing(gateway, request, "/v1/completions")


async def embeddings(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /v1/embeddings`."""
    passing = _pass if gateway.serving is None else _counted
    return await passing(gateway, request, EMBEDDINGS)


async def models(gateway: Gateway, request: Request) -> Reply:
    """`GET /v1/models`: every model of every endpoint, once."""
    del request
    return models_reply(gateway)


async def model(gateway: Gateway, request: Request) -> Reply:
    """`GET /v1/models/{model}`: one of them; a name may have slashes."""
    return model_reply(gateway, request.params["model"])


async def _pass(gateway: Gateway, request: Request, path: str, *, chat: bool = False) -> Reply | Stream:
    peek = request.decode(Peek)
    named = None if peek.model in (None, "", "default") else peek.model
    has_skip = peek.skip_reasoning is not msgspec.UNSET

    lane = lane_of(request)
    several = type(peek.n) is int and 1 < peek.n <= MAX_N and not peek.stream

    def body(state: EndpointState) -> bytes | Directed:
        if not state.dialect.has_openai_routes and path != EMBEDDINGS:
            return open_retold.body_for(state, request, chat=chat)
        passed = _as_called_there(state, request.body, named)
        if several and state.ignores_n:
            passed = open_several.one_choice(passed)
        return state.endpoint.prepared(passed, chat=chat, has_skip=has_skip)

    if not peek.stream:
        state, answered = await request.while_connected(gateway.fleet.ask(path, body, model=named, lane=lane))
        if not state.dialect.has_openai_routes and path != EMBEDDINGS:
            return open_retold.reply_of(gateway, state, request, answered, chat=chat)
        if several and state.ignores_n and answered.status == 200:
            pin = state.endpoint.base_url

            async def ask() -> Answer:
                return (await gateway.fleet.ask(path, body, model=named, pin=pin, lane=lane))[1]

            return Reply(200, await request.while_connected(open_several.filled(answered.body, peek.n, ask)))
        return Reply(answered.status, answered.body, answered.header(b"content-type") or b"application/json")
    state, streamed = await request.while_connected(gateway.fleet.open(path, body, model=named, lane=lane))
    await relay_error(streamed)
    if not state.dialect.has_openai_routes:
        stream = Stream(200, open_retold.events_of(gateway, state, request, streamed, chat=chat))
        stream.at_end.append(streamed.abort)
        return stream
    stream = Stream(200, _frames(gateway, request, streamed), streamed.header(b"content-type") or b"text/event-stream")
    stream.at_end.append(streamed.abort)
    return stream


async def _counted(gateway: Gateway, request: Request, path: str, *, chat: bool = False) -> Reply | Stream:
    """The same in front of declared models: what a user's request takes is counted."""
    meter = None if gateway.serving is None else gateway.serving.accounts.meter(request)
    if meter is None:
        return await _pass(gateway, request, path, chat=chat)
    if request.decode(Peek).stream:
        request.body = meter.asking(request.body)
    outcome = await _pass(gateway, request, path, chat=chat)
    if isinstance(outcome, Reply):
        meter.whole(outcome.body)
    else:
        outcome.frames = meter.stream(outcome.frames)
    return outcome


async def _frames(gateway: Gateway, request: Request, streamed: StreamedAnswer) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in streamed.chunks():
            yield piece
    except MoorageError as fault:
        gateway.log.fault(fault, request_id=request.id, path=request.path)
        yield error_frame(fault)


def _as_called_there(state: EndpointState, body: bytes, named: str | None) -> bytes:
    """The body with the name that the endpoint knows the model by, where that is another one."""
    if state.names is None:
        return body if named else _with_model(body, state.model_name)
    there = state.name_for(named)
    return body if there == named else _with_model(body, there)


def _with_model(body: bytes, model: str | None) -> bytes:
    """The same body with the upstream's own model in place of none."""
    if model is None:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)
