"""Claw-R1's white-box routes: generate and submit steps; rewards are in a file of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from moorage.capture.packing import pack_floats, pack_ids, unpack_floats, unpack_ids
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.reply import read_chat, read_completion
from moorage.gateway.http.faults import BodyWrong
from moorage.gateway.http.reply import Reply, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.routes.trajectories import check_channel, check_prompt_uid, check_trajectory_uid
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk
from moorage.gateway.turns.lanes import lane_of
from moorage.gateway.turns.retelling import wanted_of
from moorage.gateway.turns.upstream import learning_of_ids, refuse_error
from moorage.pool.contract import NewTrajectory, SubmittedStep

if TYPE_CHECKING:
    from moorage.engines.contract import Directed
    from moorage.engines.fleet.state import EndpointState
    from moorage.gateway.gateway import Gateway

__all__ = ["generate", "submit_steps"]

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class GenerateBody(msgspec.Struct, frozen=True):
    messages: list[dict[str, Any]] | None = None
    prompt_ids: list[TokenId] | None = None
    trajectory_uid: str | None = None
    prompt_uid: str | None = None
    sampling_params: dict[str, Any] = {}
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None


class StepBody(msgspec.Struct, frozen=True):
    trajectory_uid: str
    prompt_ids: list[TokenId]
    response_ids: list[TokenId]
    prompt_uid: str | None = None
    step_index: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    policy_version: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] = 0
    is_last: bool = False
    reward: float | None = None
    rollout_log_probs: list[float] | None = None
    metadata: dict[str, Any] | None = None
    multi_modal_data: Any = None
    routed_experts: Any = None


class StepsBody(msgspec.Struct, frozen=True):
    steps: list[StepBody]


async def generate(gateway: Gateway, request: Request) -> Reply:
    """`POST /generate`: one sample from messages or token ids. It stores nothing: its caller submits the step."""
    body = request.decode(GenerateBody)
    if (body.messages is None) == (body.prompt_ids is None):
        raise BodyWrong("exactly one of messages and prompt_ids", "/messages")
    if body.messages is not None:
        await _known_for(gateway, body)
    path = "/v1/chat/completions" if body.messages is not None else "/v1/completions"
    state, answered = await request.while_connected(
        gateway.fleet.ask(
            path,
            lambda state: _generate_body(gateway, body, state),
            session=body.trajectory_uid,
            lane=lane_of(request),
            fits=lambda state: state.dialect.gives_ids,
        )
    )
    refuse_error(answered)
    with learning_of_ids(state):
        said = _retold(gateway, body, state, answered.body)
        generation = read_chat(said) if body.messages is not None else read_completion(said)
    choice = generation.choices[0]
    ids = unpack_ids(choice.ids)
    return json_reply(
        {
            "response_text": choice.text if choice.text is not None else (choice.message or {}).get("content") or "",
            "response_ids": ids,
            "prompt_ids": unpack_ids(generation.prompt),
            "token_ids": ids,
            "log_probs": unpack_floats(choice.logprobs),
            "stop_reason": choice.finish_reason,
        }
    )


async def submit_steps(gateway: Gateway, request: Request) -> Reply:
    """`POST /submit_steps[?channel=]`: steps that an agent made by itself; all of them or none."""
    channel = request.query.get("channel")
    check_channel(channel)
    steps = [_step(step, index) for index, step in enumerate(request.decode(StepsBody).steps)]
    done = await gateway.store.submit(steps, channel)
    for uid in {step.trajectory_uid for step in steps}:
        gateway.sessions.forget(uid)
    return json_reply({"accepted": done.accepted, "duplicates": done.duplicates})


async def _known_for(gateway: Gateway, body: GenerateBody) -> None:
    """`/generate` with messages makes its trajectory known."""
    if body.trajectory_uid is None or body.prompt_uid is None:
        missing = "trajectory_uid" if body.trajectory_uid is None else "prompt_uid"
        raise BodyWrong(f"{missing} is required with messages", f"/{missing}")
    check_trajectory_uid(body.trajectory_uid, "/trajectory_uid")
    check_prompt_uid(body.prompt_uid, "/prompt_uid")
    if await gateway.store.find(body.trajectory_uid) is None:
        await gateway.sessions.create(
            NewTrajectory(
                uid=body.trajectory_uid, kind="trajectory", prompt_uid=body.prompt_uid, created_at=gateway.clock()
            )
        )


def _retold(gateway: Gateway, body: GenerateBody, state: EndpointState, reply: bytes) -> bytes:
    if state.dialect.retelling is None:
        return reply
    known = None if body.prompt_ids is None else Known.of(pack_ids(body.prompt_ids))
    request = msgspec.json.encode(_fields(gateway, body))
    wanted = wanted_of(gateway, state, request, chat=body.messages is not None, model=None, prompt=known)
    return state.dialect.retelling.whole(reply, wanted)


def _fields(gateway: Gateway, body: GenerateBody) -> dict[str, Any]:
    """How to sample."""
    fields: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, **body.sampling_params}
    given = {"max_tokens": body.max_tokens, "temperature": body.temperature, "top_p": body.top_p}
    fields.update({name: value for name, value in given.items() if value is not None})
    if gateway.settings.response_length is not None:
        fields.setdefault("max_tokens", gateway.settings.response_length)
    return fields


def _generate_body(gateway: Gateway, body: GenerateBody, state: EndpointState) -> bytes | Directed:
    fields = _fields(gateway, body)
    model = fields.pop("model", None) or state.model_name
    ask: ChatAsk | CompletionAsk
    if body.messages is not None:
        ask = ChatAsk(messages=body.messages)
        fields["messages"] = body.messages
    else:
        ask = CompletionAsk(prompt=body.prompt_ids or [])
        fields["prompt"] = body.prompt_ids
    told = state.endpoint.prepared(
        msgspec.json.encode(fields), chat=body.messages is not None, has_skip="skip_reasoning" in fields
    )
    return state.dialect.captured(told, ask, model)


def _step(body: StepBody, index: int) -> SubmittedStep:
    at = f"/steps/{index}"
    check_trajectory_uid(body.trajectory_uid, f"{at}/trajectory_uid")
    check_prompt_uid(body.prompt_uid or None, f"{at}/prompt_uid")
    if not body.prompt_ids:
        raise BodyWrong("prompt_ids is empty", f"{at}/prompt_ids")
    if body.rollout_log_probs is not None and len(body.rollout_log_probs) != len(body.response_ids):
        given, needed = len(body.rollout_log_probs), len(body.response_ids)
        raise BodyWrong(f"{given} log probabilities for {needed} response_ids", f"{at}/rollout_log_probs")
    return SubmittedStep(
        trajectory_uid=body.trajectory_uid,
        prompt_uid=body.prompt_uid or None,
        step_index=body.step_index,
        prompt_ids=pack_ids(body.prompt_ids),
        response_ids=pack_ids(body.response_ids),
        rollout_log_probs=None if body.rollout_log_probs is None else pack_floats(body.rollout_log_probs),
        reward=body.reward,
        policy_version=body.policy_version,
        is_last=body.is_last,
        metadata=body.metadata or {},
        multi_modal_data=body.multi_modal_data,
        routed_experts=body.routed_experts,
    )
