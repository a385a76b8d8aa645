"""How likely a prompt is to its engine: `/v1/logprobs`, in sessions and open. Nothing is recorded."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.packing import pack_ids, unpack_ids
from moorage.capture.tree import CallTree
from moorage.engines.contract import Directed
from moorage.engines.logprobs import normalised
from moorage.engines.rendering.textual import text_plan
from moorage.engines.vllm.known import Known
from moorage.gateway.http.faults import BodyWrong, Fault
from moorage.gateway.http.reply import Reply
from moorage.gateway.http.request import Request
from moorage.gateway.turns import exact, render_by_engine
from moorage.gateway.turns.lanes import lane_named, lane_of
from moorage.gateway.turns.live import LiveSession
from moorage.gateway.turns.reading import read_in_session
from moorage.gateway.turns.turn import CHAT, mode_of
from moorage.gateway.turns.upstream import refuse_error
from moorage.pool.contract import Trajectory

if TYPE_CHECKING:
    from moorage.engines.contract import Scoring
    from moorage.engines.fleet.state import EndpointState
    from moorage.gateway.gateway import Gateway

__all__ = ["of_session", "open_logprobs"]

NO_ROUTE = (404, 405, 501)
TOLD_HERE = 4096
"""Longer prompts' replies are read in a thread: other requests go on."""
MOST_TOPS = 1_000_000
"""More than any vocabulary has: what is too many for an engine, it says itself."""


class LogprobsBody(msgspec.Struct, frozen=True):
    """Exactly one of the three first. What else a chat has counts for `messages`."""

    input_ids: list[int] | None = None
    prompt: str | list[int] | None = None
    messages: list[dict[str, Any]] | None = None
    top_k: int | None = None
    top_logprobs: int | None = None
    """Atropos's other name for `top_k`."""
    model: str | None = None
    split: str | None = None


async def open_logprobs(gateway: Gateway, request: Request) -> Reply:
    """`POST /v1/logprobs`."""
    return await _answer(gateway, request, None)


async def of_session(gateway: Gateway, request: Request) -> Reply:
    """`POST /{uuid}/v1/logprobs`: messages are rendered as the session's next chat would be; it stays as it is."""
    return await _answer(gateway, request, await gateway.sessions.get(request.params["uid"], "session"))


async def _answer(gateway: Gateway, request: Request, live: LiveSession | None) -> Reply:
    body = request.decode(LogprobsBody)
    wanted = body.top_k if body.top_k is not None else body.top_logprobs
    top_k = max(1, 1 if wanted is None else wanted)
    if top_k > MOST_TOPS:
        raise BodyWrong(f"top_k is at most {MOST_TOPS}", "/top_k")
    options = {} if live is None else live.trajectory.options
    lane = lane_of(request, options) if body.split is None else lane_named(body.split, "split")
    ids = await _ids(gateway, request, live, body)
    prompt = Known.of(pack_ids(ids))
    named = None if body.model in (None, "", "default") else body.model

    def ask(state: EndpointState) -> Directed:
        if state.dialect.scoring is None:
            raise _refusal(state)
        return state.dialect.scoring.ask(prompt, top_k, state.name_for(named))

    state, answered = await request.while_connected(
        gateway.fleet.ask(
            "/v1/completions",
            ask,
            model=named,
            session=None if live is None else live.trajectory.uid,
            pin=options.get("base_url"),
            lane=lane,
            fits=_scores if live is None else None,
        )
    )
    if answered.status in NO_ROUTE or state.dialect.scoring is None:
        raise _refusal(state)
    refuse_error(answered)
    work = partial(_told, state.dialect.scoring, answered.body, prompt, ids, top_k)
    said = work() if len(ids) <= TOLD_HERE else await asyncio.to_thread(work)
    if said is None:
        raise _refusal(state)
    return Reply(200, said)


def _told(scoring: Scoring, reply: bytes, prompt: Known, ids: list[int], top_k: int) -> bytes | None:
    """The reply's JSON; None: the engine says nothing of the prompt. Raises its faults."""
    scores = scoring.read(reply, prompt)
    return None if scores is None else msgspec.json.encode(normalised(ids, scores, top_k))


def _scores(state: EndpointState) -> bool:
    return state.dialect.scoring is not None


def _refusal(state: EndpointState) -> Fault:
    message = f"{state.endpoint.base_url} ({state.endpoint.server_type}) gives no log probabilities of a prompt"
    return Fault(501, message, code="logprobs_not_supported")


async def _ids(gateway: Gateway, request: Request, live: LiveSession | None, body: LogprobsBody) -> list[int]:
    given = body.prompt if isinstance(body.prompt, list) else body.input_ids
    text = body.prompt if isinstance(body.prompt, str) else None
    if sum(one is not None for one in (body.input_ids, body.prompt, body.messages)) != 1:
        raise BodyWrong("exactly one of input_ids, prompt and messages", "/input_ids")
    if given is not None:
        if any(not 0 <= one < 2**32 for one in given):
            raise Fault(400, "token ids are whole numbers from 0 to 2^32", code="ids_out_of_range", param="input_ids")
        ids = given
    elif text is not None:
        ids = await _of_text(gateway, request, live, text)
    else:
        ids = await _of_messages(gateway, request, live)
    if not ids:
        raise Fault(400, "the prompt is empty", code="prompt_empty", param="prompt")
    return ids


async def _of_messages(gateway: Gateway, request: Request, live: LiveSession | None) -> list[int]:
    used = live if live is not None else _nobody()
    read, _ = read_in_session(used.memo, request, CHAT)
    if mode_of(gateway, used) == "exact" and not read.engine_renders and gateway.renderer is not None:
        return unpack_ids((await exact.plan_chat(gateway, used, read)).ids)
    rendered = await render_by_engine.render(gateway, live, request, read.ask)
    ids: list[int] = msgspec.json.decode(rendered.body)["token_ids"]
    return ids


async def _of_text(gateway: Gateway, request: Request, live: LiveSession | None, text: str) -> list[int]:
    if gateway.renderer is not None:
        tree = CallTree() if live is None else live.tree
        return unpack_ids(text_plan(gateway.renderer.tokenizer, tree, text, prompt_limit=None).ids)
    return await render_by_engine.encode(gateway, live, request, text)


def _nobody() -> LiveSession:
    """A session that nobody has: nothing came before."""
    trajectory = Trajectory(
        uid="",
        kind="session",
        prompt_uid="",
        channel=None,
        channel_fixed=False,
        state="open",
        metadata={},
        options={},
        created_at=0.0,
        completed_at=None,
        calls=0,
        version=0,
    )
    return LiveSession(trajectory, ())
