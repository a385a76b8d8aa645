"""A step as it is stored, as JSON has it."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.packing import unpack_floats, unpack_ids
from moorage.pool.contract import PackedStep, Step

__all__ = ["unpacked"]


def unpacked(step: PackedStep, *, shown: bool) -> Step:
    """`shown`: with channel, late, delivered and marks, as `/pool/steps` has them."""
    marks = msgspec.json.decode(step.marks) if shown else {}
    return Step(
        trajectory_uid=step.trajectory_uid,
        prompt_uid=step.prompt_uid,
        step_index=step.step_index,
        prompt_ids=unpack_ids(step.prompt_ids),
        response_ids=unpack_ids(step.response_ids),
        rollout_log_probs=None if step.rollout_log_probs is None else unpack_floats(step.rollout_log_probs),
        reward=step.reward,
        policy_version=step.policy_version,
        is_last=step.is_last,
        metadata=msgspec.json.decode(step.metadata),
        multi_modal_data=_given(step.multi_modal_data),
        routed_experts=_given(step.routed_experts),
        channel=step.channel if shown else msgspec.UNSET,
        late=step.late if shown else msgspec.UNSET,
        delivered=step.delivered if shown else msgspec.UNSET,
        marks=marks or msgspec.UNSET,
    )


def _given(raw: bytes | None) -> Any:
    return msgspec.UNSET if raw is None else msgspec.json.decode(raw)
