"""A store as it is read by those who inspect it: nothing is written, nothing migrated, and damage is told by its place.

`moorage.pool.contract.Store` gives what was committed or fails; here a call that cannot be read is still a call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from moorage.capture.call import Call
from moorage.pool.contract import Event, Kind, Page, Retained, Retention, State, Trajectory

__all__ = ["Archive", "KeptCall", "Trace", "TraceAsk"]


class TraceAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Which trajectories; None: any."""

    kind: Kind | None = None
    channel: str | None = None
    state: State | None = None
    newest_first: bool = False
    after: int | None = None
    """`Trace.number` of the last one that was given; None: from the beginning."""
    limit: int = 50


class Trace(msgspec.Struct, frozen=True):
    """A trajectory or session, deleted ones too. `number`: its place in the order in which they were made."""

    number: int
    trajectory: Trajectory
    broken: tuple[str, ...] = ()
    """Fields of its row that cannot be read; they are empty in `trajectory`."""


class KeptCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it is kept: nothing is decoded, and what its row says beside the record stands here."""

    seq: int
    step_index: int
    late: bool
    delivered: bool
    policy_version: int
    reward: float | None
    hash: bytes
    record: bytes | None
    """None: it cannot be unpacked; `broken` says why."""
    extras: bytes | None
    """None: there are none, they cannot be unpacked, or they were not asked for."""
    broken: Mapping[str, str] = {}
    """Field (`record`, `extras`) → why it cannot be unpacked."""


class Archive(Protocol):
    """What `moorage.pool.opening.open_store` gives for reading only. Unknown uids raise NotFoundError.

    Each read is one short transaction: whoever writes to the store meanwhile is not held up. Reads raise StoreFault
    when the store is away, PreflightError `store_corrupt` when it is damaged beyond single rows.
    """

    async def open(self) -> None:
        """Raises NotFoundError when it is not there, PreflightError when it is no store of ours, or a newer one."""

    async def close(self) -> None:
        """Leaves everything as it was."""

    async def size(self) -> tuple[int, int]:
        """How many trajectories and how many calls there are."""

    async def find(self, uid: str) -> Trace | None:
        """A trajectory by its uid; None: unknown."""

    async def traces(self, ask: TraceAsk) -> list[Trace]:
        """In the order in which they were made, at most `ask.limit`; fewer: there are no more."""

    async def kept(
        self, uid: str, after: int = -1, limit: int | None = None, *, extras: bool = False
    ) -> list[KeptCall]:
        """Its calls with a `seq` above `after`, by `seq`; at most `limit` (None: all). `extras`: with them."""

    async def blobs(self, digests: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Those that are there; None: there, and cannot be unpacked."""

    # As `moorage.pool.contract.Store` has them:

    async def calls(self, uid: str) -> list[Call]: ...

    async def records(self, uid: str) -> list[tuple[int, bytes, bytes]]: ...

    async def extras(self, uid: str, seqs: Sequence[int]) -> dict[int, bytes]: ...

    async def sessions(self, kind: Kind | None = None) -> list[Trajectory]: ...

    async def steps(
        self, filters: Mapping[str, Any], limit: int, cursor: str | None, *, packed: bool = False
    ) -> Page: ...

    async def stats(self, channel: str | None, n_rollouts: int, now: float) -> dict[str, Any]: ...

    async def latest_event(self) -> int: ...

    async def events(self, after: int, limit: int) -> list[Event]:
        """At most `limit` events after one, of all channels."""

    async def retainable(self, ask: Retention, now: float) -> Retained:
        """What `retain` would let go. Raises UsageError `bad_retention`."""

    async def trajectories(self, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page: ...
