"""A reward of a single step, given after the step was stored."""

from __future__ import annotations

from moorage.pool.faults import deleted, reward_frozen, unknown_step
from moorage.pool.sql.appending import INTEGERS
from moorage.pool.sql.trajectories import need
from moorage.pool.sql.transaction import Transaction

__all__ = ["reward_step"]


def reward_step(transaction: Transaction, uid: str, step_index: int, reward: float) -> None:
    """Raises NotFoundError, and ConflictError for a deleted one and once its group was leased."""
    kept = need(transaction, uid)
    if kept.state == "deleted":
        raise deleted(uid)
    transaction.flush()
    own = (kept.id, step_index)
    if step_index not in INTEGERS:
        raise unknown_step(uid, step_index)
    if transaction.execute("SELECT 1 FROM calls WHERE trajectory = ? AND step_index = ?", own).fetchone() is None:
        raise unknown_step(uid, step_index)
    if kept.round_id is not None:
        raise reward_frozen(uid)
    transaction.execute("UPDATE calls SET reward = ? WHERE trajectory = ? AND step_index = ?", (reward, *own))
