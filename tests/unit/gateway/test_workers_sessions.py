"""A worker's copy of a session against the store, with others that write to it in any order."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.errors import NotFoundError
from moorage.gateway.turns.live import LiveSession, LiveSessions
from moorage.pool.contract import Change, NewTrajectory
from moorage.pool.sqlite.store import SqliteStore
from tests.contract.store_parts import draft

UID = "session-1"
MEMORY_BYTES = 1 << 20
DEEDS = ("append", "register", "complete", "look", "forget", "two at once", "append while it reads")


def sessions_over(store: SqliteStore) -> LiveSessions:
    return LiveSessions(store, clock=time.time, memory_bytes=MEMORY_BYTES, max_sessions=10)


async def commit(store: SqliteStore, sessions: LiveSessions, live: LiveSession, many: int = 1) -> None:
    """As a model call does it."""
    appended = await store.append(UID, [draft(UID, choice=n) for n in range(many)], {})
    try:
        live.take(appended)
    except ValueError:
        sessions.forget(UID)


async def check(store: SqliteStore, sessions: LiveSessions) -> None:
    """The copy that a request is given is the store's state."""
    live = await sessions.get(UID, "trajectory")
    now = await store.find(UID)
    calls = await store.calls(UID)
    assert now is not None
    assert [(node.seq, node.choice) for node in live.tree.nodes()] == [(call.seq, call.record.choice) for call in calls]
    assert (live.trajectory.state, live.trajectory.metadata) == (now.state, now.metadata)


async def do(deed: str, number: int, store: SqliteStore, sessions: LiveSessions) -> None:
    live = await sessions.get(UID, "trajectory")
    if deed == "append":
        await commit(store, sessions, live)
    elif deed == "two at once":
        await asyncio.gather(commit(store, sessions, live, 2), commit(store, sessions, live))
    elif deed == "append while it reads":
        await asyncio.gather(commit(store, sessions, live), sessions.get(UID, "trajectory"))
    elif deed == "register":
        live.trajectory = await store.change(UID, Change(metadata={"number": number}))
    elif deed == "complete":
        live.trajectory = await store.complete(UID, reward=float(number), channel=None)
    elif deed == "forget":
        sessions.forget(UID)


Step = tuple[int, str, bool]
"""Which worker, what it does, whether it does so while the next one does something too."""


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(DEEDS), st.booleans()), min_size=1, max_size=14))
@settings(max_examples=60)
def test_a_copy_is_never_behind_when_it_is_given_out(steps: list[Step]) -> None:
    async def scenario(folder: Path) -> None:
        stores = [SqliteStore(folder / "store.db") for _ in range(3)]
        for store in stores:
            await store.open()
        try:
            workers = [(store, sessions_over(store)) for store in stores]
            await workers[0][1].create(NewTrajectory(uid=UID, kind="trajectory"))
            running: list[asyncio.Task[None]] = []
            for number, (which, deed, at_once) in enumerate(steps):
                running.append(asyncio.create_task(do(deed, number, *workers[which])))
                if at_once:
                    continue
                await asyncio.gather(*running)
                running.clear()
                for worker in workers:
                    await check(*worker)
            await asyncio.gather(*running)
            for worker in workers:
                await check(*worker)
        finally:
            for store in stores:
                await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


def with_two(scenario: Any, folder: Path) -> None:
    async def run() -> None:
        stores = [SqliteStore(folder / "store.db") for _ in range(2)]
        for store in stores:
            await store.open()
        try:
            await scenario(*stores)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(run())


def test_what_is_in_flight_outlives_a_reload(tmp_path: Path) -> None:
    """Retries find the request that they repeat although another worker wrote meanwhile."""

    async def scenario(store: SqliteStore, other: SqliteStore) -> None:
        sessions = sessions_over(store)
        await sessions.create(NewTrajectory(uid=UID, kind="trajectory"))
        live = await sessions.get(UID, "trajectory")
        live.in_flight[b"key"] = []
        live.busy = 1
        await other.append(UID, [draft(UID)], {})
        await commit(store, sessions, live)  # with a gap
        again = await sessions.get(UID, "trajectory")
        assert again is live and len(live.tree) == 2 and b"key" in live.in_flight
        assert live.kwargs is None and live.system_key is None

    with_two(scenario, tmp_path)


def test_one_writer_reads_its_own_session_once(tmp_path: Path) -> None:
    """As long as nobody else writes, no call reads the store."""

    async def scenario(store: SqliteStore, other: SqliteStore) -> None:
        reads = 0

        async def counted(uid: str) -> Any:
            nonlocal reads
            reads += 1
            return await other.calls(uid)

        sessions = sessions_over(store)
        await sessions.create(NewTrajectory(uid=UID, kind="trajectory"), uid_is_new=True)
        store.calls = counted  # type: ignore[method-assign]
        for _ in range(5):
            live = await sessions.get(UID, "trajectory")
            await commit(store, sessions, live)
        assert reads == 0
        await other.append(UID, [draft(UID)], {})
        for _ in range(3):
            assert len((await sessions.get(UID, "trajectory")).tree) == 6
        assert reads == 1

    with_two(scenario, tmp_path)


def test_a_store_that_was_put_back_is_read_anew(tmp_path: Path) -> None:
    """Memory that knows more than the store gives way to it."""

    async def scenario(store: SqliteStore, other: SqliteStore) -> None:
        sessions = sessions_over(store)
        await sessions.create(NewTrajectory(uid=UID, kind="trajectory"))
        live = await sessions.get(UID, "trajectory")
        await commit(store, sessions, live)
        older = await other.find(UID)
        await commit(store, sessions, live)

        async def find(uid: str) -> Any:
            return older if uid == UID else None

        store.find = find  # type: ignore[method-assign]
        sessions.forget(UID)
        assert len((await sessions.get(UID, "trajectory")).tree) == 1

    with_two(scenario, tmp_path)


def test_an_unknown_one_is_not_found_and_a_deleted_one_not_any_more(tmp_path: Path) -> None:
    async def scenario(store: SqliteStore, other: SqliteStore) -> None:
        one, two = sessions_over(store), sessions_over(other)
        with pytest.raises(NotFoundError):
            await one.get(UID, "session")
        await two.create(NewTrajectory(uid=UID, kind="session"), uid_is_new=True)
        await one.get(UID, "session")
        assert (one.open, two.open) == (1, 1)
        await two.delete(UID)
        with pytest.raises(NotFoundError):
            await one.get(UID, "session")
        assert (one.open, two.open) == (0, 0)

    with_two(scenario, tmp_path)


def test_open_sessions_are_learned_while_others_open_and_end_some(tmp_path: Path) -> None:
    async def scenario(store: SqliteStore, other: SqliteStore) -> None:
        one = sessions_over(store)
        for name in ("a", "b", "c"):
            await other.create(NewTrajectory(uid=name, kind="session"))
        read = store.sessions

        async def slowly(kind: Any) -> Any:
            rows = await read(kind)
            one.opened.heard_opened("d")  # told after it was read
            one.opened.heard_ended("a")
            return rows

        store.sessions = slowly  # type: ignore[method-assign]
        await one.opened.learn()
        assert sorted(one.opened.used("abcd")) == ["b", "c", "d"]

    with_two(scenario, tmp_path)
