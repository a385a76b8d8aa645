"""Sessions and trajectories at work: what the worker keeps in memory of each, read from the store when needed.

Memory is a cache: every call is in the store before its reply ends, so dropping a session here loses nothing. Others
write to the store too, so each copy notes the store's stamp of the moment before it was read; it counts as long as the
stamp is that one, and is read again otherwise.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from moorage.capture.call import Call
from moorage.capture.tree import CallTree, Node
from moorage.engines.vllm.known import Known
from moorage.errors import NotFoundError
from moorage.gateway.http.faults import Fault
from moorage.gateway.turns.opened import OpenSessions
from moorage.gateway.turns.reading import Memo
from moorage.pool.contract import Appended, Kind, NewTrajectory, Store, Trajectory

if TYPE_CHECKING:
    from moorage.gateway.turns.retries import Flight

__all__ = ["LiveSession", "LiveSessions", "Past"]

SESSION_BYTES = 2_000
CALL_BYTES = 1_200
"""About what a session and a call take beside their ids."""
WARM_SESSIONS = 500


class Past(NamedTuple):
    """A request that was committed: its first call, and the digest of its Idempotency-Key."""

    seq: int
    idempotency_digest: bytes


class LiveSession:
    """One session in memory. Changed only between awaits, so no lock is needed for matching."""

    __slots__ = (
        "_bytes",
        "_digests",
        "_past",
        "busy",
        "counted",
        "in_flight",
        "known",
        "kwargs",
        "memo",
        "stamp",
        "system_key",
        "trajectory",
        "tree",
    )

    def __init__(self, trajectory: Trajectory, calls: Sequence[Call], stamp: int | None = None) -> None:
        self.trajectory = trajectory
        self.stamp = stamp
        """The store's, as long as nobody else has written; None: read it again before it is used."""
        self.tree = CallTree()
        self._past: dict[bytes, int | list[int]] = {}
        """Retry key → the first calls of the requests with it: one as a rule, and then a number takes the least."""
        self._digests: dict[int, bytes] = {}
        """Of those that had an Idempotency-Key."""
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
        """Put committed calls in.

        Raises ValueError, and takes nothing, when others' calls came between: then the session is to be read again.
        """
        if appended.calls[0].seq != len(self.tree):
            self.stamp = None
            raise ValueError(f"call {appended.calls[0].seq} of a session of which {len(self.tree)} are known")
        nodes = [self._take(call) for call in appended.calls]
        alone = self.stamp is not None and _came_next(self.trajectory, appended)
        self.stamp = appended.stamp if alone else None
        self.trajectory = _at(self.trajectory, appended)
        return nodes

    def renew(self, trajectory: Trajectory, calls: Sequence[Call], stamp: int) -> None:
        """Put in what others wrote: the store's state, read after `stamp` was noted. What is in flight goes on."""
        if calls[len(self.tree) :]:
            self.system_key = self.kwargs = None  # the last request was not of this worker
        for call in calls[len(self.tree) :]:
            self._take(call)
        self.trajectory = trajectory
        self.stamp = stamp

    def past(self, retry_key: bytes) -> list[Past]:
        """The requests with that key that were committed, oldest first."""
        seqs = self._past.get(retry_key)
        if seqs is None:
            return []
        return [Past(seq, self._digests.get(seq, b"")) for seq in ([seqs] if isinstance(seqs, int) else seqs)]

    def takes_system(self, key: bytes) -> bool:
        """Note the leading system messages of a request; whether they are others than the last request's."""
        changed = self.system_key is not None and self.system_key != key
        self.system_key = key
        return changed

    def _take(self, call: Call) -> Node:
        record = call.record
        node = self.tree.add(call, loose_reply_key=record.loose_reply_key, reasoning_digest=record.reasoning_digest)
        if record.retry_key and record.choice == 0 and record.delivered:
            self._note(record.retry_key, call.seq, record.idempotency_digest)
        self._bytes += CALL_BYTES + len(record.delta) + len(record.completion)
        return node

    def _note(self, retry_key: bytes, seq: int, idempotency_digest: bytes) -> None:
        earlier = self._past.setdefault(retry_key, seq)
        if isinstance(earlier, list):
            earlier.append(seq)
        elif earlier != seq:
            self._past[retry_key] = [earlier, seq]
        if idempotency_digest:
            self._digests[seq] = idempotency_digest


class LiveSessions:
    """The sessions of this worker, least recently used first."""

    def __init__(self, store: Store, *, clock: Callable[[], float], memory_bytes: int, max_sessions: int) -> None:
        self._store = store
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._max_sessions = max_sessions
        self._live: OrderedDict[str, LiveSession] = OrderedDict()
        self._warm: OrderedDict[str, LiveSession] = OrderedDict()
        """Those of them whose next request can be read as a continuation of the last, least recently used first."""
        self._loading: dict[str, asyncio.Task[LiveSession | None]] = {}
        self._bytes = 0
        self.opened = OpenSessions(store, clock)
        """Those that are open, in memory or not."""

    async def start(self) -> None:
        """Learn which sessions are open; those of an earlier run count as used now."""
        await self.opened.learn()

    @property
    def open(self) -> int:
        """How many sessions are open."""
        return len(self.opened)

    @property
    def in_memory(self) -> int:
        """How many sessions and trajectories this worker has a copy of."""
        return len(self._live)

    @property
    def memory_bytes(self) -> int:
        """About what those take."""
        return self._bytes

    def used_at(self, uid: str) -> float | None:
        """When a session was used last, Unix seconds; None for one that is not open."""
        return self.opened.used_at(uid)

    def idle_since(self, since: float) -> list[str]:
        """Sessions not used since, and not at work."""
        return [uid for uid in self.opened.idle_since(since) if not ((live := self._live.get(uid)) and live.busy)]

    async def delete(self, uid: str) -> None:
        """End a session. Raises NotFoundError."""
        await self._store.delete(uid)
        self.opened.end(uid)
        self.forget(uid)

    async def create(self, new: NewTrajectory, *, uid_is_new: bool = False) -> LiveSession:
        """Make one known. Raises Fault 429 when too many are open, ConflictError when the uid is known.

        `uid_is_new`: nobody else can have it, so nobody else has written to it.
        """
        if new.kind == "session" and self.open >= self._max_sessions:
            message = f"{self.open} sessions are open, as many as are allowed: end some, or raise --max-sessions"
            raise Fault(429, message, code="too_many_sessions", retry_after_s=5)
        live = LiveSession(await self._store.create(new), ())
        if uid_is_new:
            live.stamp = await self._store.stamp(new.uid)
        if new.kind == "session":
            self.opened.open(new.uid)
        return self._keep(live)

    async def get(self, uid: str, kind: Kind) -> LiveSession:
        """The session as the store has it now. Raises NotFoundError for one that is unknown, deleted or of the other
        kind."""
        stamp = await self._store.stamp(uid)
        live = self._live.get(uid)
        if live is None or live.stamp != stamp:
            live = await self._load(uid)
        else:
            self._live.move_to_end(uid)
        if live is None or live.trajectory.kind != kind or live.trajectory.state == "deleted":
            if live is not None and live.trajectory.kind == kind == "session":
                self.opened.heard_ended(uid)
            what = "session" if kind == "session" else "trajectory"
            how = "POST /sessions/create makes one" if kind == "session" else "POST /init_trajectory makes one"
            raise NotFoundError(f"no {what} {uid}", code=f"{what}_unknown", hint=how)
        if kind == "session":
            self.opened.use(uid)
        return live

    async def refresh(self, live: LiveSession) -> None:
        """See to it that a session that is in use is as the store has it now."""
        uid = live.trajectory.uid
        if live.stamp != await self._store.stamp(uid):
            await self._load(uid)

    def known(self, uid: str) -> LiveSession | None:
        """What memory has of it, without asking the store."""
        return self._live.get(uid)

    async def current(self, uid: str) -> LiveSession | None:
        """What memory has of it, if that is what the store has; None: read the store."""
        live = self._live.get(uid)
        if live is None or live.stamp is None or live.stamp != await self._store.stamp(uid):
            return None
        return live

    def forget(self, uid: str) -> None:
        """Drop the copy, or not trust it while it is at work: the next use reads the store."""
        live = self._live.get(uid)
        if live is None:
            return
        live.stamp = None
        if not live.busy:
            self._drop(live)

    def grew(self, live: LiveSession) -> None:
        """A call was put in: drop the least recently used sessions while memory is over its limit."""
        if self._live.get(live.trajectory.uid) is not live:
            return
        self._count(live)
        self._shrink()
        self._keep_warm(live)

    def _keep_warm(self, live: LiveSession) -> None:
        """Only the sessions that were used last keep their last request's text: it is most of what they take."""
        uid = live.trajectory.uid
        self._warm[uid] = live
        self._warm.move_to_end(uid)
        if len(self._warm) > WARM_SESSIONS:
            _, cold = self._warm.popitem(last=False)
            cold.memo = cold.known = None
            self._count(cold)

    def _count(self, live: LiveSession) -> None:
        now = live.size_bytes
        self._bytes += now - live.counted
        live.counted = now

    async def _load(self, uid: str) -> LiveSession | None:
        """From the store as it is after this was asked for; read once for all who ask meanwhile."""
        running = self._loading.get(uid)
        if running is not None:  # it may have begun before what this one has to see was written
            await asyncio.wait((running,))
            live, running = self._live.get(uid), self._loading.get(uid)
            if running is None and live is not None and live.stamp == await self._store.stamp(uid):
                return live
        task = self._loading.get(uid)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(uid))
            self._loading[uid] = task
            task.add_done_callback(lambda _done: self._loading.pop(uid, None))
        return await asyncio.shield(task)

    async def _read(self, uid: str) -> LiveSession | None:
        while True:
            before = self._live.get(uid)
            version = before.trajectory.version if before is not None else 0
            stamp = await self._store.stamp(uid)
            trajectory = await self._store.find(uid)
            if trajectory is None:
                self.forget(uid)
                return None
            calls = (await self._store.calls(uid))[: trajectory.calls]
            if before is None or self._live.get(uid) is not before or trajectory.version < version:
                # Not known, or dropped meanwhile; or the store was put back to an older state.
                live = self._keep(LiveSession(trajectory, calls, stamp))
                if trajectory.state != "open":
                    self._drop(live)  # looked at once more as a rule, and never the last time
                return live
            if before.trajectory.version == version:
                before.renew(trajectory, calls, stamp)
                self.grew(before)
                return before
            # A call of this worker was committed while others' were being read.

    def _keep(self, live: LiveSession) -> LiveSession:
        known = self._live.get(live.trajectory.uid)
        if known is not None:
            self._drop(known)
        self._live[live.trajectory.uid] = live
        live.counted = 0
        self._count(live)
        self._shrink()
        return live

    def _drop(self, live: LiveSession) -> None:
        del self._live[live.trajectory.uid]
        self._warm.pop(live.trajectory.uid, None)
        self._bytes -= live.counted

    def _shrink(self) -> None:
        while self._bytes > self._memory_bytes and len(self._live) > 1:
            uid, live = next(iter(self._live.items()))
            if live.busy:
                self._live.move_to_end(uid)
                return
            self._drop(live)


def _came_next(before: Trajectory, appended: Appended) -> bool:
    """Whether nobody else wrote between that state and these calls. The first call also fixes the channel."""
    written = appended.version - before.version
    return written == len(appended.calls) or (not before.channel_fixed and written == len(appended.calls) + 1)


def _at(trajectory: Trajectory, appended: Appended) -> Trajectory:
    return msgspec.structs.replace(
        trajectory, calls=appended.calls[-1].seq + 1, version=appended.version, channel_fixed=True
    )
