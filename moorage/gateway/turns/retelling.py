"""Replies of engines that speak otherwise than vLLM, retold for the call that asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from moorage.capture.packing import pack_ids
from moorage.engines.contract import Wanted
from moorage.engines.vllm.known import Known
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk

if TYPE_CHECKING:
    from moorage.engines.contract import Retelling
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import StreamedAnswer
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.call import ModelCall

__all__ = ["pieces_of", "retold", "told", "wanted_of"]


def retold(call: ModelCall, state: EndpointState, reply: bytes, *, prompt: Known | None = None) -> bytes:
    """A whole reply. `prompt`: the ids that were sent; None: the engine made them. Raises the engine's faults."""
    retelling = state.dialect.retelling
    return reply if retelling is None else retelling.whole(reply, _wanted(call, state, prompt))


def pieces_of(
    call: ModelCall, state: EndpointState, streamed: StreamedAnswer, *, prompt: Known | None = None
) -> AsyncIterator[bytes]:
    """A streamed reply in pieces as they come. Raises Broken, Silent and the engine's faults."""
    retelling = state.dialect.retelling
    return streamed.chunks() if retelling is None else told(streamed, retelling, _wanted(call, state, prompt))


def wanted_of(
    gateway: Gateway, state: EndpointState, request: bytes, *, chat: bool, model: str | None, prompt: Known | None
) -> Wanted:
    """What a reply is retold with. `model`: the one that was asked for."""
    renderer = gateway.renderer
    return Wanted(
        request=request,
        chat=chat,
        model=state.name_for(model) or "",
        prompt=prompt,
        decode=None if renderer is None else partial(gateway.decode_text, skip_special=True),
        ends=() if renderer is None else renderer.tokenizer.eos_ids,
    )


def _wanted(call: ModelCall, state: EndpointState, prompt: Known | None) -> Wanted:
    if prompt is None and isinstance(call.ask, CompletionAsk) and isinstance(call.ask.prompt, list):
        prompt = Known.of(pack_ids(call.ask.prompt))
    chat = isinstance(call.ask, ChatAsk)
    wanted = wanted_of(call.gateway, state, call.small_body, chat=chat, model=call.model, prompt=prompt)
    # A chat whose ids were sent may fill what the gateway allows; see `exact`.
    limit = call.gateway.settings.response_length if chat and prompt is not None else None
    return wanted._replace(max_tokens=limit)


async def told(streamed: StreamedAnswer, retelling: Retelling, wanted: Wanted) -> AsyncIterator[bytes]:
    """A streamed reply retold as it comes. Raises Broken, Silent and the engine's faults."""
    telling = retelling.events(wanted)
    async with aclosing(streamed.chunks()) as chunks:  # type: ignore[type-var]  # it is a generator
        async for piece in chunks:
            said = telling.feed(piece)
            if said:
                yield said
    rest = telling.end()
    if rest:
        yield rest
