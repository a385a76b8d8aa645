"""A passthrough session's prompt, rendered by its engine: what the same request would send, without sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Reply, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.live import LiveSession
from moorage.gateway.turns.upstream import refuse_error

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.gateway.gateway import Gateway

__all__ = ["encode", "render"]


async def render(gateway: Gateway, live: LiveSession | None, request: Request, ask: ChatAsk) -> Reply:
    """Its render route, else its tokenize route; `live` is None outside a session.

    Raises a Fault of 501 when it has neither.
    """
    for path in ("/v1/chat/completions/render", "/tokenize"):

        def body(state: EndpointState) -> bytes:
            fields = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
            there = state.name_for(ask.model) if state.names is not None else ask.model or state.model_name
            fields["model"] = msgspec.Raw(msgspec.json.encode(there))
            return msgspec.json.encode(fields)

        _, answered = await request.while_connected(
            gateway.fleet.ask(path, body, model=ask.model, session=_uid(live), pin=_pin(live))
        )
        if answered.status in (403, 404, 405, 501):
            continue
        refuse_error(answered)
        return json_reply(_rendered(gateway, msgspec.json.decode(answered.body)))
    raise Fault(501, "the engine has neither a render nor a tokenize route", code="render_not_supported")


async def encode(gateway: Gateway, live: LiveSession | None, request: Request, text: str) -> list[int]:
    """The ids of a text, as the engine makes them of a completion's prompt. Raises a Fault of 501 for no such route."""

    def body(state: EndpointState) -> bytes:
        return msgspec.json.encode({"model": state.model_name, "prompt": text})

    _, answered = await request.while_connected(
        gateway.fleet.ask("/tokenize", body, model=None, session=_uid(live), pin=_pin(live))
    )
    if answered.status in (403, 404, 405, 501):
        raise Fault(
            501, "the engine has no tokenize route, and there is no tokenizer here", code="render_not_supported"
        )
    refuse_error(answered)
    ids: list[int] = _rendered(gateway, msgspec.json.decode(answered.body))["token_ids"]
    return ids


def _uid(live: LiveSession | None) -> str | None:
    return None if live is None else live.trajectory.uid


def _pin(live: LiveSession | None) -> str | None:
    return None if live is None else live.trajectory.options.get("base_url")


def _rendered(gateway: Gateway, said: Any) -> dict[str, Any]:
    """vLLM answers a list of conversations, an object, or `tokens`, by route and version."""
    one = said[0] if isinstance(said, list) else said
    ids = one.get("token_ids") or one.get("prompt_token_ids") or one.get("tokens")
    if not isinstance(ids, list):
        raise Fault(502, "the engine's render has no token ids", code="engine_gives_no_token_ids")
    return {"prompt_text": one.get("prompt") or gateway.decode_text(ids), "token_ids": ids, "num_tokens": len(ids)}
