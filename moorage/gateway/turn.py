"""One model call within a session: checked, answered once, made by the engine, durable, replied.

request → what is asked → a retry? → exact or passthrough → engine → commit → reply
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.gateway import exact, passthrough, replay
from moorage.gateway.bodies import ChatAsk, CompletionAsk, read_chat, read_completion
from moorage.gateway.call import ModelCall
from moorage.gateway.faults import Fault
from moorage.gateway.live import LiveSession
from moorage.gateway.reply import Reply, Stream
from moorage.gateway.request import Request
from moorage.gateway.retries import answer_once, retry_of

if TYPE_CHECKING:
    from moorage.capture.call import Mode
    from moorage.gateway.gateway import Gateway

__all__ = ["CHAT", "COMPLETIONS", "mode_of", "take_turn"]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


async def take_turn(gateway: Gateway, live: LiveSession, request: Request, path: str) -> Reply | Stream:
    """The reply of one call; `path` is CHAT or COMPLETIONS.

    Raises Fault (400, 409), UpstreamError, and the faults of engines and store as they are.
    """
    ask: ChatAsk | CompletionAsk = read_chat(request) if path == CHAT else read_completion(request)
    retry = retry_of(request, path)
    call = ModelCall(gateway=gateway, live=live, request=request, path=path, ask=ask, retry=retry)

    async def work() -> Reply | Stream:
        refuse_sealed(live)
        if mode_of(gateway, live) == "exact" and not has_other_parts(ask):
            return await exact.answer(call)
        return await passthrough.answer(call)

    return await answer_once(live, retry, work, lambda seq: replay.reply_again(call, seq))


def mode_of(gateway: Gateway, live: LiveSession) -> Mode:
    """Exact where it was asked for and, by default, where a tokenizer is at hand."""
    chosen: Mode | None = live.trajectory.options.get("mode") or gateway.settings.mode
    if chosen is not None:
        return chosen
    return "exact" if gateway.renderer is not None else "passthrough"


def refuse_sealed(live: LiveSession) -> None:
    """A complete trajectory takes no call. Raises a Fault of 409."""
    if live.trajectory.state == "complete":
        message = f"{live.trajectory.kind} {live.trajectory.uid} is complete: it takes no more calls"
        raise Fault(409, message, code="trajectory_complete")


def has_other_parts(ask: ChatAsk | CompletionAsk) -> bool:
    """Whether a message has image, audio or video parts: only the engine can turn those into tokens."""
    if isinstance(ask, CompletionAsk):
        return False
    return any(
        not isinstance(part, dict) or part.get("type", "text") != "text"
        for message in ask.messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )
