"""What happens to leased groups: pure decisions, whichever store keeps the rows.

A group is one prompt_uid in one channel. Its complete trajectories that no lease has taken yet wait together; a lease
takes all of them and freezes them as a *round*, which is delivered until it is acked or dropped. Later ones make the
next round.

    round   leased ──ack──► acked
      ▲       │ nack, expiry
      │       ├──────────► dropped    (by request, or after the last delivery)
      └───── waiting                  (delivered again, under a new lease id)

    lease   out ──► acked | nacked | expired ──(round delivered again)──► lost
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "LeaseState",
    "RoundState",
    "after_delivery",
    "is_ready",
    "is_stale",
    "may_ack",
    "may_nack",
    "shown_state",
]

RoundState = Literal["leased", "waiting", "acked", "dropped"]
LeaseState = Literal["out", "expired", "nacked", "acked", "lost"]


def is_ready(complete: int, n_rollouts: int) -> bool:
    """Whether so many complete trajectories make a round for this ask."""
    return complete >= n_rollouts


def is_stale(oldest_policy: int | None, minimum: int | None) -> bool:
    """Whether some step was sampled by weights older than asked for. `oldest_policy` None: it has no steps."""
    return oldest_policy is not None and minimum is not None and oldest_policy < minimum


def after_delivery(attempts: int, max_attempts: int, *, drop: bool) -> RoundState:
    """What a delivery that ended without an ack leaves: the round waits for the next one, or there is none."""
    return "dropped" if drop or attempts >= max_attempts else "waiting"


def may_ack(lease: LeaseState) -> bool:
    """A late ack counts until the round was delivered again; acking twice is acking once."""
    return lease in ("out", "expired", "acked")


def may_nack(lease: LeaseState) -> bool:
    """What was acked, or is with someone else by now, cannot be given back. Giving back twice is fine."""
    return lease in ("out", "expired", "nacked")


def shown_state(state: RoundState, size: int, not_before: float, now: float, n_rollouts: int) -> str:
    """How `/pool/stats` counts a round: a waiting one is ready, or open while it is delayed or too small."""
    if state != "waiting":
        return state
    return "ready" if is_ready(size, n_rollouts) and not_before <= now else "open"
