"""A reward that is set while its process dies: nothing that was is lost, and the same request again sets it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moorage.errors import ConflictError
from moorage.gateway.turns.reward_versions import history_of, set_reward
from moorage.pool.sqlite.store import SqliteStore
from moorage.rewards.versions import Given
from tests.contract.store_parts import Clock, step

UID = "trajectory-1"


class Dying:
    """A store whose next calls of a method end the process, as far as its caller can tell, before or after it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.dies_before: str | None = None
        self.dies_after: str | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in (self.dies_before, self.dies_after):
            return method

        async def dying(*args: Any, **kwargs: Any) -> Any:
            if name == self.dies_after:
                await method(*args, **kwargs)
            raise KeyboardInterrupt

        return dying


def gateway_over(store: Any, clock: Clock) -> Any:
    ids = iter(range(1000))
    sessions = SimpleNamespace(forget=lambda uid: None)
    return SimpleNamespace(store=store, clock=clock, new_id=lambda: f"{next(ids):032x}", sessions=sessions)


def given(clock: Clock, reward: float) -> Given:
    return Given(reward=reward, by="given", at=clock(), of="trajectory")


async def told(gateway: Any) -> tuple[float, list[float]]:
    found = await history_of(gateway, UID)
    return found["reward"], [one["reward"] for one in found["versions"]]


@pytest.mark.parametrize("method", ["mark", "complete"])
@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
def test_a_death_in_the_middle(tmp_path: Path, method: str, when: str) -> None:
    async def body() -> None:
        clock = Clock()
        store = Dying(SqliteStore(tmp_path / "store.db", clock=clock))
        gateway: Any = gateway_over(store, clock)
        await store.open()
        try:
            await store.submit([step(UID, 0), step(UID, 1, reward=0.25, is_last=True)], None)
            setattr(store, when, method)
            task = asyncio.ensure_future(_quietly(set_reward(gateway, UID, None, given(clock, 0.5))))
            assert await task
            setattr(store, when, None)
            reward, versions = await told(gateway)
            assert versions[:1] == [0.25]
            assert reward in (0.25, 0.5)
            clock.now += 1
            assert (await set_reward(gateway, UID, None, given(clock, 0.5))).version == 2
            assert await told(gateway) == (0.5, [0.25, 0.5])
        finally:
            await store.close()

    asyncio.run(body())


def test_what_is_refused_leaves_no_trace(tmp_path: Path) -> None:
    async def body() -> None:
        clock = Clock()
        store = SqliteStore(tmp_path / "store.db", clock=clock)
        gateway: Any = gateway_over(store, clock)
        await store.open()
        try:
            await store.submit([step(UID, 0, reward=0.25, is_last=True)], None)
            from tests.contract.store_parts import ask

            assert (await store.lease(ask()))[0]
            with pytest.raises(ConflictError) as refused:
                await set_reward(gateway, UID, None, given(clock, 0.5))
            assert refused.value.code == "reward_frozen"
            assert await told(gateway) == (0.25, [0.25])
        finally:
            await store.close()

    asyncio.run(body())


async def _quietly(work: Any) -> bool:
    """Whether it died."""
    try:
        await work
    except KeyboardInterrupt:
        return True
    return False
