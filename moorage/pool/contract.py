"""What a store of sessions and calls promises; SQLite keeps it on one machine.

Every write is one transaction and durable when it returns. A write that could not be made durable raises StoreFault,
and nothing of it is kept. Writers may be several processes: what a write decides (the next `seq`, whether a step is
late, whether content conflicts) it decides inside its transaction, never from a copy.

Times are Unix seconds. Uids are as the HTTP surface validated them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from moorage.capture.call import Call, Draft
from moorage.pool.retained import Retained, Retention

__all__ = [
    "Appended",
    "Change",
    "Event",
    "Key",
    "Kind",
    "Lease",
    "LeaseAsk",
    "NewTrajectory",
    "PackedStep",
    "Page",
    "Retained",
    "Retention",
    "Role",
    "Step",
    "Store",
    "Submitted",
    "SubmittedStep",
    "Trajectory",
    "TrajectoryRow",
]

Kind = Literal["session", "trajectory"]
"""Made by `/sessions/create`, or by one of Claw-R1's routes."""

State = Literal["open", "complete", "deleted"]

Role = Literal["admin", "trainer"]
"""What a key may do. A session's own capability is no key: its digest stands in the trajectory's options."""


class NewTrajectory(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory or session to make known."""

    uid: str
    kind: Kind
    prompt_uid: str | None = None
    channel: str | None = None
    metadata: dict[str, Any] = {}
    options: dict[str, Any] = {}
    """What a session was created with (mode, parsers, pinned endpoint …), as JSON; the store does not look inside."""
    created_at: float = 0.0
    """0: when it is stored."""
    offered_prompt_uid: str | None = None
    """What init named without fixing it: used when neither a register nor a step names another."""


class Trajectory(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory as it is now."""

    uid: str
    kind: Kind
    prompt_uid: str | None
    """None: not fixed yet."""
    channel: str | None
    """The fixed one, else the last registered one, else None (`train` is used)."""
    channel_fixed: bool
    state: State
    metadata: dict[str, Any]
    options: dict[str, Any]
    created_at: float
    completed_at: float | None
    calls: int
    """How many are committed; the next call's `seq`."""
    version: int
    """Changes with every write to it: a copy of another version is stale. A committed call adds one."""
    offered_prompt_uid: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What register says; None leaves a field as it is. `channel` counts until the first step has fixed one."""

    prompt_uid: str | None = None
    channel: str | None = None
    metadata: dict[str, Any] | None = None


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """The committed calls of one request, in choice order, and the trajectory's version after them."""

    calls: list[Call]
    version: int
    stamp: int = 0
    """`Store.stamp` as this commit left it: a copy that took these calls in is fresh as long as it is that one."""


class SubmittedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `/submit_steps`, validated."""

    trajectory_uid: str
    prompt_uid: str | None
    step_index: int
    prompt_ids: bytes
    """[P] uint32."""
    response_ids: bytes
    """[R] uint32."""
    rollout_log_probs: bytes | None
    """[R] float64."""
    reward: float | None
    policy_version: int
    is_last: bool
    metadata: dict[str, Any]
    multi_modal_data: Any = None
    routed_experts: Any = None


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """`duplicates` of the `accepted` steps were stored already, with equal content."""

    accepted: int
    duplicates: int


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call as trainers read it: the contract's STEP."""

    trajectory_uid: str
    prompt_uid: str | None
    step_index: int
    prompt_ids: list[int]
    response_ids: list[int]
    rollout_log_probs: list[float] | None
    reward: float | None
    policy_version: int
    is_last: bool
    metadata: dict[str, Any]
    multi_modal_data: Any = msgspec.UNSET
    routed_experts: Any = msgspec.UNSET
    channel: str | msgspec.UnsetType = msgspec.UNSET
    late: bool | msgspec.UnsetType = msgspec.UNSET
    delivered: bool | msgspec.UnsetType = msgspec.UNSET
    marks: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    """What `Store.mark` set; only in pages, and only where there are some."""


class PackedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step as it is stored: ids and log probabilities packed, JSON as text: what tables take."""

    trajectory_uid: str
    prompt_uid: str | None
    step_index: int
    prompt_ids: bytes
    """[P] uint32."""
    response_ids: bytes
    """[R] uint32."""
    rollout_log_probs: bytes | None
    """[R] float64."""
    reward: float | None
    policy_version: int
    is_last: bool
    metadata: bytes
    """A JSON object, as are `marks`."""
    multi_modal_data: bytes | None
    """JSON; None: the step has none."""
    routed_experts: bytes | None
    channel: str
    late: bool
    delivered: bool
    marks: bytes
    """In leases `{}`: they are not read."""


class LeaseAsk(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `/pool/lease`, validated, defaults filled."""

    channel: str
    n_rollouts: int
    max_groups: int
    lease_s: float
    min_policy_version: int | None
    consumer: str | None
    marks: Mapping[str, Any] = {}
    """Only steps whose marks have these values are handed out; `{"trainable": True}`: those not marked untrainable.

    A trajectory keeps its place in its group with the steps that are left, and its own reward.
    """


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One leased group; `trajectories` as in the contract, steps as Step."""

    lease_id: str
    channel: str
    prompt_uid: str
    attempt: int
    expires_at: float
    trajectories: list[dict[str, Any]]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `/pool/events`. `id` strictly increases and survives restarts."""

    id: int
    type: Literal["step", "complete", "lease", "ack", "nack", "expire", "drop"]
    channel: str
    at: float
    trajectory_uid: str | None = None
    prompt_uid: str | None = None
    step_index: int | None = None
    lease_id: str | None = None
    consumer: str | None = None


class TrajectoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `/pool/trajectories`; the times are Unix seconds."""

    trajectory_uid: str
    prompt_uid: str | None
    channel: str
    state: State
    steps: int
    """Without late and undelivered ones."""
    late_steps: int
    reward: float | None
    metadata: dict[str, Any]
    created_at: float
    completed_at: float | None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was given out. Only its digest is kept; the times are Unix seconds, None: never."""

    key_id: str
    role: Role
    digest: bytes
    note: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class Page(msgspec.Struct, frozen=True):
    """Rows and the cursor of the next page; None: there is none."""

    rows: list[Any]
    next_cursor: str | None


class Store(Protocol):
    """Sessions, calls and leased groups. Unknown uids raise NotFoundError, contradictions ConflictError."""

    async def open(self) -> None:
        """Open and migrate. Raises PreflightError when the place cannot be used, also for a newer schema."""

    async def close(self) -> None:
        """Finish what was begun, then close."""

    async def create(self, new: NewTrajectory) -> Trajectory:
        """Make it known. Raises ConflictError when the uid is known already."""

    async def find(self, uid: str) -> Trajectory | None:
        """As it is now; deleted ones are found too (`state`)."""

    async def change(self, uid: str, change: Change) -> Trajectory:
        """Register. Raises ConflictError when prompt_uid or channel is fixed to another."""

    async def append(self, uid: str, drafts: Sequence[Draft], blobs: Mapping[bytes, bytes]) -> Appended:
        """Commit the choices of one request, all or none.

        `blobs`: digest → content for every digest of the drafts (those known already are not written again; extras
        are compressed). A complete trajectory takes them as late. Raises ConflictError for one that is deleted.
        """

    async def submit(self, steps: Sequence[SubmittedStep], channel: str | None) -> Submitted:
        """`/submit_steps`, all or nothing. Raises ConflictError (other content, other channel or prompt, complete)."""

    async def complete(self, uid: str, *, reward: float | None, channel: str | None) -> Trajectory:
        """Complete it; again with another reward updates it until its group is leased, then ConflictError."""

    async def delete(self, uid: str) -> None:
        """End a session: no call is taken any more, and it is not listed. Its calls stay."""

    async def calls(self, uid: str) -> list[Call]:
        """All calls of a trajectory by `seq`, undelivered and late ones too."""

    async def records(self, uid: str) -> list[tuple[int, bytes, bytes]]:
        """(seq, record, hash) by `seq`, the very bytes: what `moorage.capture.chain.verify_chain` takes."""

    async def extras(self, uid: str, seqs: Sequence[int]) -> dict[int, bytes]:
        """The extras of some calls, uncompressed JSON; {} for calls without."""

    async def sessions(self, kind: Kind | None = None) -> list[Trajectory]:
        """Those that are not deleted, oldest first."""

    async def stamp(self, uid: str) -> int:
        """Another number after any process wrote that trajectory, else the same as a rule; "": of `state` and `keys`.

        A reader notes it *before* it reads: its copy is fresh as long as the stamp is that one.
        """

    async def state(self) -> dict[str, Any]:
        """What all gateways over this store share (JSON values), as `set_state` left it."""

    async def set_state(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Set names, None takes one away; all there are now. Durable."""

    async def add_key(self, key: Key) -> None:
        """Raises ConflictError `key_taken` when its id or its digest is known."""

    async def keys(self) -> list[Key]:
        """All that were ever given out, oldest first."""

    async def revoke_key(self, key_id: str, at: float) -> Key:
        """It does not count from `at` on; again leaves the first time. Raises NotFoundError `unknown_key`."""

    async def lease(self, ask: LeaseAsk, *, packed: bool = False) -> tuple[list[Lease], int]:
        """Up to `max_groups` leases, and how many groups were skipped as stale. Never waits. `packed`: PackedSteps."""

    async def ack(self, lease_ids: Sequence[str]) -> int:
        """All or nothing. NotFoundError; ConflictError `lease_lost`."""

    async def nack(self, lease_ids: Sequence[str], *, delay_s: float, drop: bool, reason: str | None) -> int:
        """All or nothing, as ack."""

    async def mark(self, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
        """Set curation marks of a step (quality, trainable, tags, note …), None takes one away; all it has now.

        They are shown in `steps`. Whether a group is leased they never decide, which of its steps are handed out only
        where the lease asks for it. Raises NotFoundError `unknown_step`, UsageError `bad_marks`.
        """

    async def reward_step(self, uid: str, step_index: int, reward: float) -> None:
        """The reward of one step from now on; a complete trajectory's last step shows the trajectory's own instead.

        Raises NotFoundError (`unknown_trajectory`, `unknown_step`), and ConflictError `reward_frozen` once the
        trajectory's group was leased.
        """

    async def stats(self, channel: str | None, n_rollouts: int) -> dict[str, Any]:
        """`{channel: {...}}` as in the contract."""

    async def steps(self, filters: Mapping[str, Any], limit: int, cursor: str | None, *, packed: bool = False) -> Page:
        """Steps in commit order. Filters: channel, trajectory_uid, prompt_uid, policy_version, state (open | complete).

        `packed`: PackedSteps. A page of big steps has fewer than `limit`. Here and in `trajectories`, a cursor that
        this store did not give raises UsageError `bad_cursor`.
        """

    async def trajectories(self, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
        """TrajectoryRows, oldest first. Filters: channel, trajectory_uid, prompt_uid, state (open | complete)."""

    def events(self, channel: str | None, after: int | None) -> AsyncIterator[Event]:
        """What came after event `after`, then live ones as they are committed; None: live only.

        A number above the latest one, from another store, counts as the latest.
        """

    async def latest_event(self) -> int:
        """Its number; 0: there is none."""

    async def retain(self, ask: Retention, *, dry_run: bool) -> Retained:
        """Let old trajectories go, whole, in small transactions beside everything else; it may take its time.

        Killed in the middle it leaves trajectories that are there whole and others that are gone. Raises UsageError
        `bad_retention`.
        """

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when something was committed that may have made a group ready, or when the time is over."""
