"""How many tokens a chat request's prompt would have: the ids that it would send, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.packing import count
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.request import Request
from moorage.gateway.turns import exact
from moorage.gateway.turns.reading import read_in_session
from moorage.gateway.turns.turn import CHAT, mode_of
from moorage.gateway.turns.upstream import refuse_error

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.live import LiveSession

__all__ = ["count_prompt"]

RENDERED = ("messages", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")
"""The fields of a chat that its prompt is made of."""


async def count_prompt(gateway: Gateway, request: Request, live: LiveSession | None) -> int:
    """Of a session's next prompt when it is exact; else the engine counts. `request`: a chat; nothing is changed.

    Raises a Fault of 501 for an engine that does not count, and what planning and asking raise.
    """
    if live is not None:
        read, _ = read_in_session(live.memo, request, CHAT)
        if mode_of(gateway, live) == "exact" and not read.engine_renders and gateway.renderer is not None:
            return count((await exact.plan_chat(gateway, live, read)).ids)
    return await _count_by_engine(gateway, request, live)


async def _count_by_engine(gateway: Gateway, request: Request, live: LiveSession | None) -> int:
    asked = request.decode(dict[str, Any])
    named = asked.get("model")
    model = named if isinstance(named, str) and named not in ("", "default") else None
    fields = {name: asked[name] for name in RENDERED if name in asked}

    def body(state: EndpointState) -> bytes:
        return msgspec.json.encode({"model": state.name_for(model), **fields})

    _, answered = await request.while_connected(
        gateway.fleet.ask(
            "/tokenize",
            body,
            model=model,
            session=live.trajectory.uid if live is not None else None,
            pin=live.trajectory.options.get("base_url") if live is not None else None,
        )
    )
    if answered.status in (404, 405, 501):
        raise Fault(501, "the engine has no tokenize route", code="count_not_supported")
    refuse_error(answered)
    counted = msgspec.json.decode(answered.body).get("count")
    if not isinstance(counted, int):
        raise Fault(502, "the engine's tokenize route gives no count", code="count_not_supported")
    return counted
