"""One model call within a session: checked, answered once, made by the engine, durable, replied.

request → what is asked → a retry? → exact or passthrough → engine → commit → reply
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.capture.retry import begin
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.request import Request
from moorage.gateway.tokenizer_proof import mode_of_call
from moorage.gateway.turns import exact, passthrough, replay
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk, read_completion
from moorage.gateway.turns.call import ModelCall
from moorage.gateway.turns.live import LiveSession
from moorage.gateway.turns.reading import read_in_session
from moorage.gateway.turns.retries import answer_once, retry_of

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
    call = _read(gateway, live, request, path)

    async def work() -> Reply | Stream:
        if not gateway.settings.compat_claw:
            refuse_sealed(live)
        renders = call.read is None or not call.read.engine_renders
        if renders and mode_of(gateway, live) == "exact" and await _proven(call) == "exact":
            return await exact.answer(call)
        return await passthrough.answer(call)

    async def again(seq: int) -> Reply | Stream:
        return await replay.reply_again(call, seq)

    once = work if gateway.company is None else gateway.company.flights.once(live, call.retry, work, again)
    return await answer_once(live, call.retry, once, again)


def _read(gateway: Gateway, live: LiveSession, request: Request, path: str) -> ModelCall:
    ask: ChatAsk | CompletionAsk
    if path == COMPLETIONS:
        ask, read, content = read_completion(request), None, begin(path).plus(request.body).digest()
    else:
        read, live.memo = read_in_session(live.memo, request, path)
        ask, content = read.ask, read.content
    retry = retry_of(request, content)
    return ModelCall(
        gateway=gateway,
        live=live,
        request=request,
        path=path,
        ask=ask,
        read=read,
        retry=retry,
        weight_version=gateway.weight_version,
    )


async def _proven(call: ModelCall) -> Mode:
    """Exact, unless the engine that is asked has another tokenizer. Raises a Fault of 400 where exact was asked for."""
    gateway = call.gateway
    if gateway.renderer is None:
        return "exact"  # planning says what is missing
    asked = call.live.trajectory.options.get("mode_asked") or gateway.settings.mode
    return await mode_of_call(
        gateway.fleet, gateway.proof, gateway.renderer, call.uid, model=call.model, pin=call.pin, asked=asked
    )


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
