"""The row of a trajectory: made, registered, fixed by its first step, completed, deleted."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from moorage.errors import ConflictError
from moorage.pool.contract import Change, NewTrajectory, Trajectory
from moorage.pool.faults import channel_conflict, deleted, prompt_conflict, reward_frozen, unknown_trajectory
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.tallies import gathering
from moorage.pool.sql.transaction import Transaction

__all__ = [
    "DEFAULT_CHANNEL",
    "KEPT",
    "Kept",
    "change",
    "complete",
    "complete_now",
    "count_group",
    "create",
    "current_reward",
    "delete",
    "find",
    "fix",
    "fixed_channel",
    "need",
    "note_step",
    "to_trajectory",
]

DEFAULT_CHANNEL = "train"

KEPT = """t.id, t.uid, t.kind, t.state, t.prompt_uid, t.offered_prompt_uid, t.channel, t.channel_fixed, t.metadata,
    t.options, t.created_at, t.completed_at, t.version, t.top_step, t.last_seq, t.reward, t.oldest_policy, t.group_id,
    t.round_id, (SELECT max(c.seq) + 1 FROM calls c WHERE c.trajectory = t.id)"""


class Kept(msgspec.Struct):
    """A row of KEPT."""

    id: int
    uid: str
    kind: str
    state: str
    prompt_uid: str | None
    offered_prompt_uid: str | None
    channel: str | None
    channel_fixed: int
    metadata: bytes
    options: bytes
    created_at: float
    completed_at: float | None
    version: int
    top_step: int
    last_seq: int | None
    reward: float | None
    """What completion gave; None: the last step's own."""
    oldest_policy: int | None
    """Lowest policy_version of the steps a lease would hold; known once complete."""
    group_id: int | None
    round_id: int | None
    calls: int | None
    """None: none yet."""


class _Standing(NamedTuple):
    """What a trajectory is counted by."""

    state: str
    channel: str | None
    group_id: int | None


def find(db: Connection, uid: str) -> Kept | None:
    row = db.execute(f"SELECT {KEPT} FROM trajectories t WHERE t.uid = ?", (uid,)).fetchone()  # noqa: S608
    return None if row is None else Kept(*row)


def need(transaction: Transaction, uid: str) -> Kept:
    """Raises NotFoundError."""
    kept = find(transaction.db, uid)
    if kept is None:
        raise unknown_trajectory(uid)
    return kept


def to_trajectory(kept: Kept) -> Trajectory:
    calls = kept.calls or 0
    return Trajectory(
        uid=kept.uid,
        kind=kept.kind,  # type: ignore[arg-type]
        prompt_uid=kept.prompt_uid,
        channel=kept.channel,
        channel_fixed=bool(kept.channel_fixed),
        state=kept.state,  # type: ignore[arg-type]
        metadata=msgspec.json.decode(kept.metadata),
        options=msgspec.json.decode(kept.options),
        created_at=kept.created_at,
        completed_at=kept.completed_at,
        calls=calls,
        version=kept.version + calls,
        offered_prompt_uid=kept.offered_prompt_uid,
    )


def create(transaction: Transaction, new: NewTrajectory) -> Kept:
    """Raises ConflictError when the uid is known."""
    prompt_uid = new.prompt_uid
    group_id = None if prompt_uid is None else _group(transaction, new.channel or DEFAULT_CHANNEL, prompt_uid)
    values = (
        new.uid,
        new.kind,
        prompt_uid,
        new.offered_prompt_uid,
        new.channel,
        msgspec.json.encode(new.metadata),
        msgspec.json.encode(new.options),
        new.created_at or transaction.now,
        group_id,
    )
    made = transaction.execute(
        "INSERT INTO trajectories (uid, kind, state, prompt_uid, offered_prompt_uid, channel, channel_fixed,"
        " metadata, options, created_at, version, top_step, group_id)"
        " VALUES (?, ?, 'open', ?, ?, ?, 0, ?, ?, ?, 0, -1, ?) ON CONFLICT (uid) DO NOTHING",
        values,
    )
    if not made.rowcount:
        message = f"the uid {new.uid!r} is taken"
        raise ConflictError(message, code="uid_taken", hint="give another one, or none")
    transaction.touched.add(new.uid)
    kept = need(transaction, new.uid)
    _count(transaction, None, kept)
    return kept


def change(transaction: Transaction, uid: str, change: Change) -> Kept:
    """Raises NotFoundError, ConflictError."""
    kept = need(transaction, uid)
    if kept.state == "deleted":
        raise deleted(uid)
    _agree_on_prompt(kept, change.prompt_uid)
    fixed_channel(kept, change.channel)
    columns: dict[str, Any] = {}
    if change.metadata is not None:
        columns["metadata"] = msgspec.json.encode(change.metadata)
    if change.channel is not None and change.channel != kept.channel:
        columns["channel"] = change.channel
    if change.prompt_uid is not None and kept.prompt_uid is None:
        columns["prompt_uid"] = change.prompt_uid
    prompt_uid = change.prompt_uid or kept.prompt_uid
    if prompt_uid is not None and ("channel" in columns or "prompt_uid" in columns):
        channel = change.channel or kept.channel or DEFAULT_CHANNEL
        columns["group_id"] = _group(transaction, channel, prompt_uid)
    if columns:
        _update(transaction, kept, **columns)
    return kept


def fixed_channel(kept: Kept, channel: str | None) -> None:
    """Raises ConflictError when another channel is fixed."""
    if channel is not None and kept.channel_fixed and channel != kept.channel:
        raise channel_conflict(kept.uid, str(kept.channel), channel)


def fix(transaction: Transaction, kept: Kept, channel: str | None = None, prompt_uid: str | None = None) -> Kept:
    """The first step, or completion, settles channel and prompt_uid. Raises ConflictError."""
    _agree_on_prompt(kept, prompt_uid)
    fixed_channel(kept, channel)
    if kept.channel_fixed:
        return kept
    channel = channel or kept.channel or DEFAULT_CHANNEL
    prompt_uid = kept.prompt_uid or prompt_uid or kept.offered_prompt_uid or transaction.make_id()
    group_id = _group(transaction, channel, prompt_uid)
    _update(transaction, kept, channel=channel, channel_fixed=1, prompt_uid=prompt_uid, group_id=group_id)
    return kept


def complete(transaction: Transaction, uid: str, reward: float | None, channel: str | None) -> Kept:
    """Raises NotFoundError, ConflictError (deleted, another channel, a reward that came too late)."""
    kept = need(transaction, uid)
    if kept.state == "deleted":
        raise deleted(uid)
    fixed_channel(kept, channel)
    if kept.state == "open":
        return complete_now(transaction, kept, reward, channel)
    if reward is not None and reward != current_reward(transaction.db, kept):
        if kept.round_id is not None:
            raise reward_frozen(uid)
        _update(transaction, kept, reward=reward)
    return kept


def complete_now(transaction: Transaction, kept: Kept, reward: float | None = None, channel: str | None = None) -> Kept:
    """Its steps are what they will be: the group has one more to lease."""
    kept = fix(transaction, kept, channel)
    transaction.flush()
    rows = transaction.execute(
        "SELECT step_index, seq, policy_version FROM calls WHERE trajectory = ? AND flags = 0", (kept.id,)
    ).fetchall()
    _update(
        transaction,
        kept,
        state="complete",
        completed_at=transaction.now,
        last_seq=max(rows)[1] if rows else None,
        oldest_policy=min(row[2] for row in rows) if rows else None,
        reward=reward,
    )
    transaction.event("complete", str(kept.channel), trajectory_uid=kept.uid, prompt_uid=kept.prompt_uid)
    transaction.group_changed = True
    return kept


def current_reward(db: Connection, kept: Kept) -> float | None:
    """What completion gave, else the last step's own."""
    if kept.reward is not None or kept.last_seq is None:
        return kept.reward
    row = db.execute("SELECT reward FROM calls WHERE trajectory = ? AND seq = ?", (kept.id, kept.last_seq)).fetchone()
    return None if row is None else row[0]


def delete(transaction: Transaction, uid: str) -> None:
    """Raises NotFoundError. What no lease has taken yet is never leased."""
    kept = need(transaction, uid)
    if kept.state == "deleted":
        return
    _update(transaction, kept, state="deleted")


def note_step(transaction: Transaction, kept: Kept, top_step: int) -> None:
    """A step was submitted: model calls are numbered after the highest one there is."""
    _update(transaction, kept, top_step=top_step)


def count_group(transaction: Transaction, group_id: int, running: int = 0) -> None:
    """Count anew what waits in a group; so many more of its trajectories are open."""
    mine = "FROM trajectories t WHERE t.group_id = g.id AND t.round_id IS NULL AND t.state = 'complete'"
    channel, was_waiting, was_running, waiting, oldest = transaction.execute(
        f"SELECT g.channel, g.waiting, g.running, (SELECT count(*) {mine}), (SELECT min(t.oldest_policy) {mine})"  # noqa: S608
        " FROM groups g WHERE g.id = ?",
        (group_id,),
    ).fetchone()
    running += was_running
    transaction.execute(
        "UPDATE groups SET waiting = ?, oldest_policy = ?, running = ? WHERE id = ?",
        (waiting, oldest, running, group_id),
    )
    transaction.tallies.move(channel, gathering(was_waiting, was_running), gathering(waiting, running))


def _agree_on_prompt(kept: Kept, prompt_uid: str | None) -> None:
    if prompt_uid is not None and kept.prompt_uid is not None and prompt_uid != kept.prompt_uid:
        raise prompt_conflict(kept.uid, kept.prompt_uid, prompt_uid)


def _group(transaction: Transaction, channel: str, prompt_uid: str) -> int:
    """Its id tells when it was first seen."""
    values = (channel, prompt_uid)
    row = transaction.execute("SELECT id FROM groups WHERE channel = ? AND prompt_uid = ?", values).fetchone()
    if row is not None:
        return int(row[0])
    return transaction.add("INSERT INTO groups (channel, prompt_uid, waiting) VALUES (?, ?, 0)", values)


def _update(transaction: Transaction, kept: Kept, **columns: Any) -> None:
    """Write columns, here and in the file; the version goes up, and copies of the row are stale."""
    before = _Standing(kept.state, kept.channel, kept.group_id)
    kept.version += 1
    for name, value in columns.items():
        setattr(kept, name, value)
    names = ", ".join(f"{name} = ?" for name in columns)
    transaction.execute(
        f"UPDATE trajectories SET {names}, version = ? WHERE id = ?",  # noqa: S608
        (*columns.values(), kept.version, kept.id),
    )
    transaction.touched.add(kept.uid)
    transaction.knowledge.heads.pop(kept.uid, None)
    _count(transaction, before, kept)


def _count(transaction: Transaction, before: _Standing | None, kept: Kept) -> None:
    """What its change means for the counts, and for those of its groups."""
    after = _Standing(kept.state, kept.channel, kept.group_id)
    if before == after:
        return
    for standing, sign in ((before, -1), (after, 1)):
        if standing is not None and standing.state != "deleted":
            transaction.tallies.add(standing.channel or DEFAULT_CHANNEL, standing.state, sign)
    if before is not None and (before.state, before.group_id) == (after.state, after.group_id):
        return
    if before is not None and before.group_id is not None and before.group_id != after.group_id:
        _run_in(transaction, before.group_id, -1)
    if after.group_id is None:
        return
    if after.state == "open":
        _run_in(transaction, after.group_id, 1)
    else:
        count_group(transaction, after.group_id, -(before is not None and before.state == "open"))


def _run_in(transaction: Transaction, group_id: int, more: int) -> None:
    """So many more of a group's trajectories are open; what waits in it is what it was."""
    channel, waiting, running = transaction.execute(
        "SELECT channel, waiting, running FROM groups WHERE id = ?", (group_id,)
    ).fetchone()
    transaction.execute("UPDATE groups SET running = ? WHERE id = ?", (running + more, group_id))
    transaction.tallies.move(channel, gathering(waiting, running), gathering(waiting, running + more))
