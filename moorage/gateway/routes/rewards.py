"""Rewards: computed by a function, set by hand, and every version of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from moorage.gateway.http.faults import BodyWrong, Fault
from moorage.gateway.http.reply import Reply, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.turns.reward_versions import check_place, history_of, set_reward
from moorage.gateway.turns.scoring import judged, reply_text
from moorage.rewards.sample import Sample
from moorage.rewards.versions import Given

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["GivenBody", "RewardBody", "compute_reward", "give", "history"]

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
StepIndex = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class RewardBody(msgspec.Struct, frozen=True):
    messages: list[dict[str, Any]] | None = None
    prompt_ids: list[TokenId] | None = None
    response_ids: list[TokenId] | None = None
    trajectory_uid: str | None = None
    dataset_fields: dict[str, Any] = {}
    extra_fields: dict[str, Any] = {}
    num_turns: int | None = None
    function: str | None = None
    response_text: str | None = None
    store: bool = False
    step_index: StepIndex | None = None


class GivenBody(msgspec.Struct, frozen=True):
    trajectory_uid: str
    reward: float
    step_index: StepIndex | None = None
    info: dict[str, Any] = {}


async def compute_reward(gateway: Gateway, request: Request) -> Reply:
    """`POST /compute_reward`: a reward function on a conversation or on ids; with `store`, its reward is set too."""
    body = request.decode(RewardBody)
    _check(body)
    names = gateway.scorer.names
    if not names:
        raise Fault(503, "no reward function is configured: start with --reward NAME", code="reward_not_configured")
    if body.function is not None and body.function not in names:
        message = f"there is no reward {body.function[:80]!r} here: there are {', '.join(names)}"
        raise Fault(400, message, code="reward_unknown", param="/function")
    if body.store and body.trajectory_uid is not None:
        await check_place(gateway, body.trajectory_uid, body.step_index)
    one = await judged(gateway, request, body.function, await _sample(gateway, body))
    reply = {
        "reward": one.reward,
        "reward_score": one.reward,
        "reward_extra_info": one.info,
        "function": one.function,
        "function_version": one.version,
    }
    if body.store and body.trajectory_uid is not None:
        given = Given(
            reward=one.reward,
            by="computed",
            at=gateway.clock(),
            of="trajectory",
            function=one.function,
            function_version=one.version,
            info=one.info,
        )
        reply["version"] = (await set_reward(gateway, body.trajectory_uid, body.step_index, given)).version
    return json_reply(reply)


async def give(gateway: Gateway, request: Request) -> Reply:
    """`POST /pool/rewards`: set the reward of a complete trajectory, or of a step."""
    body = request.decode(GivenBody)
    given = Given(reward=body.reward, by="given", at=gateway.clock(), of="trajectory", info=body.info)
    version = await set_reward(gateway, body.trajectory_uid, body.step_index, given)
    return json_reply(
        {
            "trajectory_uid": body.trajectory_uid,
            "step_index": body.step_index,
            "reward": version.given.reward,
            "version": version.version,
        }
    )


async def history(gateway: Gateway, request: Request) -> Reply:
    """`GET /pool/rewards?trajectory_uid=`: every version, oldest first."""
    uid = request.query.get("trajectory_uid")
    if not uid:
        raise BodyWrong("trajectory_uid is required", "/trajectory_uid")
    return json_reply(await history_of(gateway, uid))


def _check(body: RewardBody) -> None:
    if (body.messages is None) == (body.prompt_ids is None):
        raise BodyWrong("exactly one of messages and prompt_ids", "/messages")
    if body.prompt_ids is not None and body.response_ids is None:
        raise BodyWrong("response_ids is required with prompt_ids", "/response_ids")
    if body.store and body.trajectory_uid is None:
        raise BodyWrong("trajectory_uid is required to store a reward", "/trajectory_uid")
    if body.step_index is not None and not body.store:
        raise BodyWrong("step_index says where to store: it goes with store", "/step_index")
    for index, message in enumerate(body.messages or ()):
        if not isinstance(message.get("role"), str):
            raise BodyWrong("a message needs a role", f"/messages/{index}/role")


async def _sample(gateway: Gateway, body: RewardBody) -> Sample:
    text = body.response_text
    if text is None:
        text = await reply_text(gateway, body.messages, body.response_ids)
    fields = body.dataset_fields
    if not fields and body.trajectory_uid is not None:
        found = await gateway.store.find(body.trajectory_uid)
        fields = found.metadata if found is not None else {}
    return Sample(
        response=text,
        messages=body.messages,
        prompt_ids=body.prompt_ids,
        response_ids=body.response_ids,
        trajectory_uid=body.trajectory_uid,
        num_turns=body.num_turns,
        dataset_fields=fields,
        extra_fields=body.extra_fields,
    )
