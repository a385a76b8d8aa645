"""A step as JSON has it, packed again: for tables of what came as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.packing import pack_floats, pack_ids
from moorage.pool.contract import PackedStep

__all__ = ["packed"]


class _Step(msgspec.Struct):
    trajectory_uid: str
    prompt_uid: str | None
    step_index: int
    prompt_ids: list[int]
    response_ids: list[int]
    rollout_log_probs: list[float] | None
    reward: float | None
    policy_version: int
    is_last: bool
    channel: str
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    multi_modal_data: msgspec.Raw | None = None
    routed_experts: msgspec.Raw | None = None
    late: bool = False
    delivered: bool = True
    marks: msgspec.Raw = msgspec.Raw(b"{}")


def packed(step: bytes) -> PackedStep:
    """Of a row of `/pool/steps`. Raises msgspec.DecodeError and ValueError for what is none."""
    read = msgspec.json.decode(step, type=_Step)
    fields: dict[str, Any] = msgspec.structs.asdict(read)
    for name in ("metadata", "marks", "multi_modal_data", "routed_experts"):
        raw = fields[name]
        fields[name] = None if raw is None else bytes(raw)
    fields["prompt_ids"] = pack_ids(read.prompt_ids)
    fields["response_ids"] = pack_ids(read.response_ids)
    fields["rollout_log_probs"] = None if read.rollout_log_probs is None else pack_floats(read.rollout_log_probs)
    return PackedStep(**fields)
