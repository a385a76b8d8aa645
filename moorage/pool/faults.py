"""What a store refuses, in one place: the same words and codes whichever store it is."""

from __future__ import annotations

from moorage.errors import ConflictError, NotFoundError, TryAgainError

__all__ = [
    "StoreFault",
    "channel_conflict",
    "deleted",
    "key_taken",
    "lease_lost",
    "prompt_conflict",
    "restored",
    "reward_frozen",
    "step_conflict",
    "trajectory_complete",
    "unknown_key",
    "unknown_lease",
    "unknown_step",
    "unknown_trajectory",
]


class StoreFault(TryAgainError):
    """The store could not do it now: the disk is full, the file read-only or gone. Nothing of the write was kept."""

    code = "store_unavailable"


def restored(store: str, seen: int, found: int) -> StoreFault:
    return StoreFault(
        f"the store {store} was restored from an older copy: it ends at event {found}, and {seen} was answered here",
        code="store_restored",
        hint="put the newer one back, or restart every gateway over it to go on with what is there",
    )


def unknown_trajectory(uid: str) -> NotFoundError:
    return NotFoundError(f"no session or trajectory is called {uid!r}", code="unknown_trajectory")


def deleted(uid: str) -> ConflictError:
    return ConflictError(f"the session {uid!r} was deleted", code="session_deleted")


def unknown_step(uid: str, step_index: int) -> NotFoundError:
    return NotFoundError(f"the trajectory {uid!r} has no step {step_index}", code="unknown_step")


def trajectory_complete(uid: str) -> ConflictError:
    return ConflictError(
        f"the trajectory {uid!r} is complete and takes no new step",
        code="trajectory_complete",
        hint="begin another trajectory",
    )


def channel_conflict(uid: str, fixed: str, given: str) -> ConflictError:
    return ConflictError(
        f"the trajectory {uid!r} belongs to channel {fixed!r}, not {given!r}",
        code="channel_conflict",
        hint="the first step fixes the channel",
    )


def prompt_conflict(uid: str, fixed: str, given: str) -> ConflictError:
    return ConflictError(
        f"the trajectory {uid!r} belongs to prompt_uid {fixed!r}, not {given!r}", code="prompt_uid_conflict"
    )


def step_conflict(uid: str, step_index: int) -> ConflictError:
    return ConflictError(
        f"step {step_index} of the trajectory {uid!r} is stored with other content",
        code="step_conflict",
        hint="a step is never replaced; give the next step_index",
    )


def reward_frozen(uid: str) -> ConflictError:
    return ConflictError(
        f"the group of the trajectory {uid!r} was leased: its reward cannot change any more", code="reward_frozen"
    )


def unknown_key(key_id: str) -> NotFoundError:
    return NotFoundError(f"no key is called {key_id!r}", code="unknown_key", next=["moor gateway keys list"])


def key_taken(key_id: str) -> ConflictError:
    return ConflictError(f"the key {key_id!r} is there already", code="key_taken", hint="make a new one")


def unknown_lease(lease_id: str) -> NotFoundError:
    return NotFoundError(f"no lease is called {lease_id!r}", code="unknown_lease")


def lease_lost(lease_id: str) -> ConflictError:
    return ConflictError(
        f"the lease {lease_id!r} is over: its group was acked, given back or delivered again",
        code="lease_lost",
        hint="drop what was made of it, and lease again",
    )
