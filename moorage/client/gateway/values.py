"""What a gateway answers, as values. Ids and log probabilities are lists."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

__all__ = [
    "Event",
    "Lease",
    "LeasedTrajectory",
    "Page",
    "Reward",
    "Session",
    "Step",
    "Trajectory",
    "TrajectoryRow",
]


class Step(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One call of a trajectory, as agents submit it and trainers lease it."""

    trajectory_uid: str
    prompt_ids: list[int]
    """[P]"""
    response_ids: list[int]
    """[R]"""
    prompt_uid: str | None = None
    """None, submitted: the trajectory's."""
    step_index: int = 0
    rollout_log_probs: list[float] | None = None
    """[R], one per response id."""
    reward: float | None = None
    policy_version: int = 0
    is_last: bool = False
    metadata: dict[str, Any] = {}
    multi_modal_data: Any = None
    routed_experts: Any = None
    channel: str | None = None
    late: bool = False
    """It came after its trajectory was complete: never leased."""
    delivered: bool = True
    """False: the client went away before its reply was complete: never leased."""
    marks: dict[str, Any] = {}


class LeasedTrajectory(msgspec.Struct, kw_only=True):
    """One of a group, with all its steps by `step_index`."""

    trajectory_uid: str
    reward: float | None = None
    """The last step's."""
    metadata: dict[str, Any] = {}
    steps: list[Step] = []


class Lease(msgspec.Struct, kw_only=True):
    """A group that is this consumer's until `expires_at`."""

    lease_id: str
    channel: str
    prompt_uid: str
    attempt: int
    """Deliveries of the group, this one counted."""
    expires_at: datetime
    trajectories: list[LeasedTrajectory]


class Leases(msgspec.Struct, kw_only=True):
    leases: list[Lease]
    skipped_stale: int = 0
    """Groups passed over for `min_policy_version`."""


class Trajectory(msgspec.Struct, kw_only=True):
    """One agent run. `openai_base_url` is what an OpenAI client is given."""

    trajectory_uid: str
    prompt_uid: str
    base_url: str
    openai_base_url: str
    api_key: str | None = msgspec.field(default=None)
    """The trajectory's own key, for an agent that is to have no other; None: the gateway asks for none."""


class TrajectoryRow(msgspec.Struct, kw_only=True):
    """What the pool has of a trajectory; `steps` and `late_steps` are counts."""

    trajectory_uid: str
    prompt_uid: str
    channel: str
    state: str
    """`open` or `complete`."""
    steps: int
    late_steps: int = 0
    reward: float | None = None
    metadata: dict[str, Any] = {}
    created_at: datetime
    completed_at: datetime | None = None


class Session(msgspec.Struct, kw_only=True):
    """A session that was created."""

    uuid: str
    model_name: str | None = None
    tool_parser: str | None = None
    tool_parsing: str = "disabled"
    mode: str = "exact"
    base_url: str | None = None
    created_at: float = 0.0
    """Unix seconds."""
    dummy: bool = False
    """Its tokens are placeholders: nothing to train on."""
    api_key: str | None = None
    """The session's own key, for an agent that is to have no other; None: the gateway asks for none."""


class Reward(msgspec.Struct, kw_only=True):
    """What a reward function made of a sample."""

    reward: float
    reward_extra_info: dict[str, Any] = {}
    function: str | None = None
    function_version: str | None = None
    version: int | None = None
    """Of the trajectory's rewards; None: it was not stored."""


class Event(msgspec.Struct, kw_only=True):
    """Something that happened in the pool."""

    id: int = 0
    type: str
    channel: str | None = None
    at: datetime
    trajectory_uid: str | None = None
    prompt_uid: str | None = None
    step_index: int | None = None
    lease_id: str | None = None
    consumer: str | None = None


class Page(msgspec.Struct, kw_only=True):
    """A page of rows."""

    rows: list[Any]
    next_cursor: str | None = None
