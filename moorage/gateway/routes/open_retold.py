"""Open requests at engines that have no OpenAI routes: asked in their own words, answered in OpenAI's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from moorage.capture.packing import pack_ids
from moorage.engines.vllm.client_event import client_event, is_ours_alone
from moorage.engines.vllm.client_reply import client_reply
from moorage.engines.vllm.events import Events
from moorage.engines.vllm.known import Known
from moorage.errors import MoorageError
from moorage.gateway.http.reply import Reply
from moorage.gateway.http.sse import error_frame
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk, read_chat, read_completion
from moorage.gateway.turns.retelling import told, wanted_of
from moorage.gateway.turns.upstream import refuse_error

if TYPE_CHECKING:
    from moorage.engines.contract import Directed, Wanted
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import Answer, StreamedAnswer
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.http.request import Request

__all__ = ["body_for", "events_of", "reply_of"]


def body_for(state: EndpointState, request: Request, *, chat: bool) -> bytes | Directed:
    """The request in the endpoint's words. Raises a Fault of 400 for what is no chat or completion."""
    return state.dialect.captured(request.body, _asked(request, chat=chat), None)


def reply_of(gateway: Gateway, state: EndpointState, request: Request, answered: Answer, *, chat: bool) -> Reply:
    """Its reply in OpenAI's. Raises UpstreamError and the engine's faults."""
    refuse_error(answered)
    retelling = state.dialect.retelling
    body = answered.body
    if retelling is not None:
        body = retelling.whole(body, _wanted(gateway, state, request, chat=chat))
    return Reply(200, client_reply(body, _asked(request, chat=chat)))


async def events_of(
    gateway: Gateway, state: EndpointState, request: Request, streamed: StreamedAnswer, *, chat: bool
) -> AsyncGenerator[bytes, None]:
    """The events of its reply."""
    retelling, asked, events = state.dialect.retelling, _asked(request, chat=chat), Events()
    shows_usage = asked.wants_usage
    try:
        pieces = streamed.chunks()
        if retelling is not None:
            pieces = told(streamed, retelling, _wanted(gateway, state, request, chat=chat))
        async for piece in pieces:
            for event in events.feed(piece):
                said = client_event(event, ids=asked.return_token_ids is not True, logprobs=not asked.logprobs)
                if not is_ours_alone(said) and (shows_usage or b'"choices":[]' not in said):
                    yield said
    except MoorageError as fault:
        gateway.log.fault(fault, request_id=request.id, path=request.path)
        yield error_frame(fault)


def _asked(request: Request, *, chat: bool) -> ChatAsk | CompletionAsk:
    return read_chat(request) if chat else read_completion(request)


def _wanted(gateway: Gateway, state: EndpointState, request: Request, *, chat: bool) -> Wanted:
    asked = _asked(request, chat=chat)
    prompt = getattr(asked, "prompt", None)
    known = Known.of(pack_ids(prompt)) if isinstance(prompt, list) else None
    return wanted_of(gateway, state, request.body, chat=chat, model=asked.model, prompt=known)
