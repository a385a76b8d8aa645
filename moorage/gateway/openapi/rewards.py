"""Rewards: computed, set by hand, and what they were."""

from __future__ import annotations

from typing import Any

from moorage.gateway.openapi.operation import json_of, operation, query, ref

__all__ = ["paths"]


def paths() -> dict[str, Any]:
    """`/compute_reward` and `/pool/rewards`."""
    computed = operation(
        "A reward function's judgement of a conversation, or of token ids",
        name="compute_reward",
        tag="trajectories",
        problem=True,
        reply=json_of("The reward, by both of its names.", ref("Reward")),
        body="RewardBody",
        faults=(400, 404, 409, 422, 500, 502, 503, 504),
    )
    given = operation(
        "Set the reward of a complete trajectory, or of a step; what it was is kept",
        name="set_reward",
        tag="pool",
        problem=True,
        reply=json_of("Which version it is.", ref("RewardSet")),
        body="GivenBody",
        faults=(400, 404, 409, 422, 503),
    )
    read = operation(
        "Every version of a trajectory's rewards, oldest first",
        name="rewards",
        tag="pool",
        problem=True,
        reply=json_of("Its own, and its steps'.", ref("Rewards")),
        parameters=(query("trajectory_uid", "The trajectory.", type="string"),),
        faults=(404, 422, 503),
    )
    return {"/compute_reward": {"post": computed}, "/pool/rewards": {"get": read, "post": given}}
