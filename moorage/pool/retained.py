"""What is asked of retention, and what it answers: part of `moorage.pool.contract`."""

from __future__ import annotations

import msgspec

__all__ = ["Retained", "Retention"]


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What may go. Both limits may be given: a trajectory goes when it is older, or when the store is bigger.

    Never, whatever is asked: what is open, in a group that is ready or leased, or younger than `YOUNGEST_S`.
    """

    older_than_s: float | None
    """Since the last thing that happened to it; None: age alone sends nothing away."""
    max_bytes: int | None
    """The oldest go until the store's content is no bigger; None: any size will do."""
    n_rollouts: int = 1
    """What `ready` means: a group with fewer complete trajectories, none open, is one that nobody finishes."""
    keep: frozenset[str] = frozenset()
    """Kept besides: `acked`, `dropped`, `deleted`, `unfinished` (of such a group), `marked` (some step has marks)."""


class Retained(msgspec.Struct, frozen=True, kw_only=True):
    """What went, or in a dry run what would."""

    trajectories: int
    calls: int
    bytes: int
    """Of their records, extras and marks, as stored."""
    channels: dict[str, int]
    """Trajectories by channel."""
    oldest_at: float | None
    """When the first and the last of them were last touched, Unix seconds; None: nothing goes."""
    newest_at: float | None
    blobs: int = 0
    """Contents (tools, templates, metadata) that no call names any more; a dry run does not look for them."""
    freed_bytes: int = 0
    """Given back to the file system by now."""
    content_bytes: int = 0
    """What is in the store now, as `max_bytes` counts it."""
