"""Sessions and trajectories at work: what the worker keeps in memory of each, read from the store when needed.

Memory is a cache: every call is in the store before its reply ends, so dropping a session here loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.call import Call
from moorage.capture.tree import CallTree, Node
from moorage.engines.vllm.known import Known
from moorage.errors import NotFoundError
from moorage.gateway.http.faults import Fault
from moorage.gateway.turns.reading import Memo
from moorage.pool.contract import Appended, Kind, NewTrajectory, Store, Trajectory

if TYPE_CHECKING:
    from moorage.gateway.turns.retries import Flight

__all__ = ["LiveSession", "LiveSessions", "Past"]

SESSION_BYTES = 2_000
CALL_BYTES = 1_200
"""About what a session and a call take beside their ids."""


class Past:
    """A request that was committed: its first call, and the digest of its Idempotency-Key."""

    __slots__ = ("idempotency_digest", "seq")

    def __init__(self, seq: int, idempotency_digest: bytes) -> None:
        self.seq = seq
        self.idempotency_digest = idempotency_digest


class LiveSession:
    """One session in memory. Changed only between awaits, so no lock is needed for matching."""

    __slots__ = (
        "_bytes",
        "busy",
        "counted",
        "in_flight",
        "known",
        "kwargs",
        "memo",
        "past",
        "system_key",
        "trajectory",
        "tree",
    )

    def __init__(self, trajectory: Trajectory, calls: Sequence[Call]) -> None:
        self.trajectory = trajectory
        self.tree = CallTree()
        self.past: dict[bytes, list[Past]] = {}
        self.in_flight: dict[bytes, list[Flight]] = {}
        """Retry key → the requests with it that are not over."""
        self.memo: Memo | None = None
        """The last chat request's text, so that the next one's need not be read whole."""
        self.known: Known | None = None
        """The last prompt's ids and their JSON text, for the same reason."""
        self.system_key: bytes | None = None
        """Of the last request (`moorage.gateway.turns.passthrough.system_key`); None: there was none in this worker."""
        self.kwargs: dict[str, Any] | None = None
        """`chat_template_kwargs` of the last exact request; None: there was none in this worker."""
        self.busy = 0
        self._bytes = SESSION_BYTES
        self.counted = 0
        """What of `size_bytes` the worker's sum has."""
        for call in calls:
            self._take(call)

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        memo = self.memo.size_bytes if self.memo is not None else 0
        return self._bytes + memo + (len(self.known.ids) + len(self.known.text) if self.known is not None else 0)

    def take(self, appended: Appended) -> list[Node]:
        """Put committed calls in."""
        self.trajectory = _at(self.trajectory, appended)
        return [self._take(call) for call in appended.calls]

    def takes_system(self, key: bytes) -> bool:
        """Note the leading system messages of a request; whether they are others than the last request's."""
        changed = self.system_key is not None and self.system_key != key
        self.system_key = key
        return changed

    def _take(self, call: Call) -> Node:
        record = call.record
        node = self.tree.add(call, loose_reply_key=record.loose_reply_key, reasoning_digest=record.reasoning_digest)
        if record.retry_key and record.choice == 0 and record.delivered:
            self.past.setdefault(record.retry_key, []).append(Past(call.seq, record.idempotency_digest))
        self._bytes += CALL_BYTES + len(record.delta) + len(record.completion)
        return node


class LiveSessions:
    """The sessions of this worker, least recently used first."""

    def __init__(self, store: Store, *, clock: Callable[[], float], memory_bytes: int, max_sessions: int) -> None:
        self._store = store
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._max_sessions = max_sessions
        self._live: OrderedDict[str, LiveSession] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LiveSession | None]] = {}
        self._bytes = 0
        self._used_at: dict[str, float] = {}
        """When each session that is open was used last, in memory or not."""

    async def start(self) -> None:
        """Learn which sessions are open; those of an earlier run count as used now."""
        self._used_at = {row.uid: self._clock() for row in await self._store.sessions("session") if row.state == "open"}

    @property
    def open(self) -> int:
        """How many sessions are open."""
        return len(self._used_at)

    def used_at(self, uid: str) -> float | None:
        """When a session was used last, Unix seconds; None for one that is not open."""
        return self._used_at.get(uid)

    def idle_since(self, since: float) -> list[str]:
        """Sessions not used since, and not at work."""
        idle = [uid for uid, used_at in self._used_at.items() if used_at < since]
        return [uid for uid in idle if not ((live := self._live.get(uid)) and live.busy)]

    async def delete(self, uid: str) -> None:
        """End a session. Raises NotFoundError."""
        await self._store.delete(uid)
        self._used_at.pop(uid, None)
        self.forget(uid)

    async def create(self, new: NewTrajectory) -> LiveSession:
        """Make one known. Raises Fault 429 when too many are open, ConflictError when the uid is known."""
        if new.kind == "session" and self.open >= self._max_sessions:
            message = f"{self.open} sessions are open, as many as are allowed: end some, or raise --max-sessions"
            raise Fault(429, message, code="too_many_sessions", retry_after_s=5)
        live = LiveSession(await self._store.create(new), ())
        if new.kind == "session":
            self._used_at[new.uid] = self._clock()
        return self._keep(live)

    async def get(self, uid: str, kind: Kind) -> LiveSession:
        """The session. Raises NotFoundError for one that is unknown, deleted or of the other kind."""
        live = self._live.get(uid)
        if live is None:
            live = await self._load(uid)
        else:
            self._live.move_to_end(uid)
        if live is None or live.trajectory.kind != kind or live.trajectory.state == "deleted":
            what = "session" if kind == "session" else "trajectory"
            how = "POST /sessions/create makes one" if kind == "session" else "POST /init_trajectory makes one"
            raise NotFoundError(f"no {what} {uid}", code=f"{what}_unknown", hint=how)
        if kind == "session":
            self._used_at[uid] = self._clock()
        return live

    def known(self, uid: str) -> LiveSession | None:
        """What memory has of it, without asking the store."""
        return self._live.get(uid)

    def forget(self, uid: str) -> None:
        """Drop the copy: the next use reads the store."""
        live = self._live.pop(uid, None)
        if live is not None:
            self._bytes -= live.counted

    def grew(self, live: LiveSession) -> None:
        """A call was put in: drop the least recently used sessions while memory is over its limit."""
        if self._live.get(live.trajectory.uid) is not live:
            return
        self._count(live)
        self._shrink()

    def _count(self, live: LiveSession) -> None:
        now = live.size_bytes
        self._bytes += now - live.counted
        live.counted = now

    async def _load(self, uid: str) -> LiveSession | None:
        """From the store, once however many ask."""
        task = self._loading.get(uid)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(uid))
            self._loading[uid] = task
            task.add_done_callback(lambda _done: self._loading.pop(uid, None))
        return await asyncio.shield(task)

    async def _read(self, uid: str) -> LiveSession | None:
        trajectory = await self._store.find(uid)
        if trajectory is None:
            return None
        return self._keep(LiveSession(trajectory, await self._store.calls(uid)))

    def _keep(self, live: LiveSession) -> LiveSession:
        uid = live.trajectory.uid
        self.forget(uid)
        self._live[uid] = live
        live.counted = 0
        self._count(live)
        self._shrink()
        return live

    def _shrink(self) -> None:
        while self._bytes > self._memory_bytes and len(self._live) > 1:
            uid, live = next(iter(self._live.items()))
            if live.busy:
                self._live.move_to_end(uid)
                return
            self.forget(uid)


def _at(trajectory: Trajectory, appended: Appended) -> Trajectory:
    return msgspec.structs.replace(
        trajectory, calls=appended.calls[-1].seq + 1, version=appended.version, channel_fixed=True
    )
