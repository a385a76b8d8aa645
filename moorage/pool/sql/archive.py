"""`moorage.pool.archive.Archive` over a database: what is kept, row by row, whether it can be read or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import zstandard

from moorage.capture.call import Call
from moorage.pool.archive import KeptCall, Trace, TraceAsk
from moorage.pool.contract import Event, Kind, Page, Retained, Retention, Trajectory
from moorage.pool.faults import unknown_trajectory
from moorage.pool.sql import events, pages, reading
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.records import LATE, UNDELIVERED, read_record, unpack
from moorage.pool.sql.retaining import plan
from moorage.pool.sql.store import Reads
from moorage.pool.sql.trajectories import DEFAULT_CHANNEL, KEPT, Kept, find, to_trajectory

__all__ = ["SqlArchive"]

_VARIABLES = 500


class SqlArchive:
    """The reads; a subclass opens and closes what they go to."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def size(self) -> tuple[int, int]:
        return await self._reads.run(_size)

    async def find(self, uid: str) -> Trace | None:
        return await self._reads.run(lambda db: _found(db, uid))

    async def traces(self, ask: TraceAsk) -> list[Trace]:
        return await self._reads.run(lambda db: _traces(db, ask))

    async def kept(
        self, uid: str, after: int = -1, limit: int | None = None, *, extras: bool = False
    ) -> list[KeptCall]:
        return await self._reads.run(lambda db: _kept(db, uid, after, limit, extras=extras))

    async def blobs(self, digests: Sequence[bytes]) -> dict[bytes, bytes | None]:
        return await self._reads.run(lambda db: _blobs(db, digests))

    async def calls(self, uid: str) -> list[Call]:
        return await self._reads.run(lambda db: reading.calls(db, uid))

    async def records(self, uid: str) -> list[tuple[int, bytes, bytes]]:
        return await self._reads.run(lambda db: reading.records(db, uid))

    async def extras(self, uid: str, seqs: Sequence[int]) -> dict[int, bytes]:
        return await self._reads.run(lambda db: reading.extras(db, uid, seqs))

    async def sessions(self, kind: Kind | None = None) -> list[Trajectory]:
        return await self._reads.run(lambda db: reading.sessions(db, kind))

    async def trajectories(self, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
        return await self._reads.run(lambda db: pages.trajectories(db, filters, limit, cursor))

    async def steps(self, filters: Mapping[str, Any], limit: int, cursor: str | None, *, packed: bool = False) -> Page:
        return await self._reads.run(lambda db: pages.steps(db, filters, limit, cursor, packed=packed))

    async def stats(self, channel: str | None, n_rollouts: int, now: float) -> dict[str, Any]:
        return await self._reads.run(lambda db: pages.stats(db, channel, n_rollouts, now))

    async def latest_event(self) -> int:
        return await self._reads.run(events.latest)

    async def events(self, after: int, limit: int) -> list[Event]:
        return await self._reads.run(lambda db: events.read(db, after, limit))

    async def retainable(self, ask: Retention, now: float) -> Retained:
        return await plan(self._reads.run, ask, now)


def _size(db: Connection) -> tuple[int, int]:
    trajectories, calls = db.execute(
        "SELECT (SELECT count(*) FROM trajectories), (SELECT count(*) FROM calls)"
    ).fetchone()
    return trajectories, calls


def _found(db: Connection, uid: str) -> Trace | None:
    kept = find(db, uid)
    return None if kept is None else _trace(kept)


def _traces(db: Connection, ask: TraceAsk) -> list[Trace]:
    sign, order = ("<", "DESC") if ask.newest_first else (">", "ASC")
    asked: list[tuple[str, Any]] = [
        (f"t.id {sign} ?", ask.after),
        ("t.kind = ?", ask.kind),
        ("t.state = ?", ask.state),
        (f"coalesce(t.channel, '{DEFAULT_CHANNEL}') = ?", ask.channel),
    ]
    given = [(condition, value) for condition, value in asked if value is not None]
    where = " AND ".join(["1 = 1", *(condition for condition, _ in given)])
    rows = db.execute(
        f"SELECT {KEPT} FROM trajectories t WHERE {where} ORDER BY t.id {order} LIMIT ?",  # noqa: S608
        (*(value for _, value in given), ask.limit),
    ).fetchall()
    return [_trace(Kept(*row)) for row in rows]


def _trace(kept: Kept) -> Trace:
    broken = tuple(name for name in ("metadata", "options") if not _is_object(getattr(kept, name)))
    for name in broken:
        setattr(kept, name, b"{}")
    return Trace(kept.id, to_trajectory(kept), broken)


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(content), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return False


def _kept(db: Connection, uid: str, after: int, limit: int | None, *, extras: bool) -> list[KeptCall]:
    trajectory = find(db, uid)
    if trajectory is None:
        raise unknown_trajectory(uid)
    data, join = ("e.data", "LEFT JOIN extras e ON e.call = c.id") if extras else ("NULL", "")
    few, many = ("", ()) if limit is None else (" LIMIT ?", (limit,))
    rows = db.execute(
        "SELECT c.id, c.seq, c.step_index, c.flags, c.policy_version, c.reward, c.hash, c.record,"  # noqa: S608
        f" {data} FROM calls c {join} WHERE c.trajectory = ? AND c.seq > ? ORDER BY c.seq{few}",
        (trajectory.id, after, *many),
    ).fetchall()
    return [_call(db, row) for row in rows]


def _call(db: Connection, row: Sequence[Any]) -> KeptCall:
    number, seq, step_index, flags, policy_version, reward, chained, stored, extras = row
    broken: dict[str, str] = {}
    return KeptCall(
        seq=seq,
        step_index=step_index,
        late=bool(flags & LATE),
        delivered=not flags & UNDELIVERED,
        policy_version=policy_version,
        reward=reward,
        hash=chained,
        record=_unpacked("record", lambda: read_record(db, number, stored), broken),
        extras=None if extras is None else _unpacked("extras", lambda: unpack(extras), broken),
        broken=broken,
    )


def _unpacked(field: str, read: Callable[[], bytes], broken: dict[str, str]) -> bytes | None:
    try:
        return read()
    except (zstandard.ZstdError, MemoryError, TypeError) as fault:
        broken[field] = f"it cannot be unpacked: {fault}"
        return None


def _blobs(db: Connection, digests: Sequence[bytes]) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {}
    for start in range(0, len(digests), _VARIABLES):
        some = digests[start : start + _VARIABLES]
        marks = ", ".join("?" * len(some))
        rows = db.execute(f"SELECT digest, data FROM blobs WHERE digest IN ({marks})", some).fetchall()  # noqa: S608
        found |= {bytes(name): _unpacked("blob", lambda data=data: unpack(data), {}) for name, data in rows}  # type: ignore[misc]
    return found
