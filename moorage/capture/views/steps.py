"""Calls as Claw-R1's steps: one per call, each with its whole prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.capture.call import Call
from moorage.capture.packing import unpack_floats, unpack_ids
from moorage.capture.tree import CallTree

__all__ = ["step_of", "steps_of"]


def step_of(
    call: Call,
    prompt: bytes,
    *,
    prompt_uid: str | None,
    metadata: Mapping[str, Any] | None = None,
    multi_modal_data: Any = None,
    routed_experts: Any = None,
) -> dict[str, Any]:
    """The contract's STEP of a call whose whole prompt is [P] `prompt`; the two last fields only when given."""
    record = call.record
    step: dict[str, Any] = {
        "trajectory_uid": record.session_id,
        "prompt_uid": prompt_uid,
        "step_index": call.step_index,
        "prompt_ids": unpack_ids(prompt),
        "response_ids": unpack_ids(record.completion),
        "rollout_log_probs": None if record.logprobs is None else unpack_floats(record.logprobs),
        "reward": call.reward,
        "policy_version": record.policy_version,
        "is_last": call.is_last,
        "metadata": dict(metadata or {}),
    }
    if multi_modal_data is not None:
        step["multi_modal_data"] = multi_modal_data
    if routed_experts is not None:
        step["routed_experts"] = routed_experts
    return step


def steps_of(calls: Sequence[Call], *, prompt_uid: str | None, leasable: bool = False) -> list[dict[str, Any]]:
    """The steps of a session, all its `calls` given by `seq`; `leasable` leaves out undelivered and late ones."""
    tree = CallTree()
    steps: list[dict[str, Any]] = []
    for call in calls:
        node = tree.add(call)
        if leasable and (call.late or not call.record.delivered):
            continue
        steps.append(step_of(call, tree.prompt(node), prompt_uid=prompt_uid))
    return steps
