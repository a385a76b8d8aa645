"""What is wrong with a record, and where."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Findings", "TraceFault"]


class TraceFault(msgspec.Struct, frozen=True):
    """One thing that is not as it was committed, or not as it says."""

    uid: str
    call: int | None
    """Its `seq`; None: the trajectory itself."""
    field: str
    """Of the record or of its row: `record`, `hash`, `extras`, `parent`, `keep`, `logprobs`, `verdict` …"""
    message: str

    def shown(self) -> dict[str, Any]:
        """As JSON values."""
        return msgspec.structs.asdict(self)

    def line(self) -> str:
        """For people."""
        call = "" if self.call is None else f" call {self.call}"
        return f"{self.uid}{call} {self.field}: {self.message}"


class Findings:
    """What one or several trajectories gave."""

    def __init__(self) -> None:
        self.trajectories = 0
        self.calls = 0
        self.tokens = 0
        """Those that prompts added, and those sampled."""
        self.judged = 0
        """Boundaries of which verdict and reason came out the same again."""
        self.open: dict[str, int] = {}
        """What could not be judged again → in how many calls."""
        self.faults: list[TraceFault] = []
        self.head: bytes | None = None
        """The last hash of the last trajectory; None: it has no calls."""

    def fault(self, uid: str, call: int | None, field: str, message: str) -> None:
        self.faults.append(TraceFault(uid, call, field, message))

    def add(self, other: Findings) -> None:
        """What another part of the store gave."""
        self.trajectories += other.trajectories
        self.calls += other.calls
        self.tokens += other.tokens
        self.judged += other.judged
        for why, many in other.open.items():
            self.open[why] = self.open.get(why, 0) + many
        self.faults += other.faults
        self.head = other.head

    def leave_open(self, why: str) -> None:
        self.open[why] = self.open.get(why, 0) + 1
