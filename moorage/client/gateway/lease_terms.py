"""What a run of leases asks for, and when it ends: shared by both forms of the iterator."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from moorage.client.gateway.asks.body import given
from moorage.errors import UsageError

__all__ = ["Held", "LeaseTerms"]

L = TypeVar("L")

LONGEST_WAIT_S = 20.0
"""One request waits no longer: it ends with the caller's wish to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """`idle_s`: give up when nothing was ready for so long; None: never. `limit`: at most so many leases."""

    channel: str = "train"
    n_rollouts: int | None = None
    """None: the gateway's own."""
    max_groups: int = 1
    """How many are taken at once; those not handed out when it ends go back."""
    lease_s: float = 300.0
    min_policy_version: int | None = None
    consumer: str | None = None
    marks: Mapping[str, Any] | None = None
    idle_s: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.idle_s is not None and not self.idle_s >= 0:
            raise UsageError(f"idle_s is {self.idle_s!r}: it is not below 0", code="bad_value")

    def body(self, *, idle_for_s: float, taken: int) -> dict[str, Any] | None:
        """The next request; None: it is time to end. `idle_for_s`: since something was ready."""
        left = None if self.limit is None else self.limit - taken
        if left is not None and left <= 0:
            return None
        wait_s = LONGEST_WAIT_S if self.idle_s is None else min(LONGEST_WAIT_S, self.idle_s - idle_for_s)
        if wait_s < 0:
            return None
        return given(
            channel=self.channel,
            n_rollouts=self.n_rollouts,
            max_groups=self.max_groups if left is None else min(self.max_groups, left),
            lease_s=self.lease_s,
            min_policy_version=self.min_policy_version,
            consumer=self.consumer,
            marks=None if self.marks is None else dict(self.marks),
            wait_s=wait_s,
        )


@dataclass(slots=True)
class Held(Generic[L]):
    """Leases that are taken and not settled."""

    out: L | None = None
    """The one that the caller has; None: none."""
    waiting: deque[L] = field(default_factory=deque)
    """Those taken with it."""
    taken: int = 0

    def take(self, leases: list[L]) -> None:
        self.waiting.extend(leases)
        self.taken += len(leases)

    def next(self) -> L | None:
        """The next one, which the caller has then."""
        self.out = self.waiting.popleft() if self.waiting else None
        return self.out

    def settled(self) -> None:
        self.out = None

    def rest(self) -> list[L]:
        """What is to be given back; nothing is held then."""
        left = list(self.waiting)
        if self.out is not None:
            left.insert(0, self.out)
        self.waiting.clear()
        self.out = None
        return left
