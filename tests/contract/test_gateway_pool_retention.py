"""Retention over HTTP, on stores whose trajectories are old: what goes, what stays, and a gateway that is killed."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from moorage.capture.chain import verify_chain
from moorage.capture.packing import pack_ids
from moorage.gateway.routes import pool_retention
from moorage.gateway.settings import Settings
from moorage.pool.sqlite.store import SqliteStore
from tests.contract.gateway_calls import check_problem
from tests.contract.gateway_channel import Channel
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway, wait_until
from tests.contract.store_parts import ask, step

MONTH_S = 30 * 86400.0


def fill(path: Path, groups: int, *, steps: int = 3, age_s: float = MONTH_S, settle: bool = True) -> None:
    """Groups of two trajectories, made and acked so long ago."""

    async def run() -> None:
        begun = time.time() - age_s
        store = SqliteStore(path, clock=lambda: begun)
        await store.open()
        chance = random.Random(7)
        for number in range(groups):
            for run in range(2):
                ids = pack_ids(chance.randrange(2**32) for _ in range(2000))
                made = [
                    step(
                        f"old-{number}-{run}",
                        index,
                        prompt_uid=f"old-{number}",
                        prompt_ids=ids,
                        metadata={"of": f"{number}-{run}"},
                        is_last=index == steps - 1,
                    )
                    for index in range(steps)
                ]
                await store.submit(made, None)
        if settle:
            leases, _ = await store.lease(ask(max_groups=1000))
            await store.ack([one.lease_id for one in leases])
        await store.close()

    asyncio.run(run())


@pytest.fixture
def old(tmp_path: Path) -> Iterator[GatewayProcess]:
    fill(tmp_path / "gateway.db", 20)
    with running_gateway(tmp_path) as running:
        yield running


def retain(gateway: GatewayProcess, **body: Any) -> dict[str, Any]:
    reply = gateway.post("/pool/retain", body)
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


def test_what_is_old_goes_and_the_plan_is_what_goes(old: GatewayProcess) -> None:
    pool = Channel(old, "train")
    young = pool.rollout("young")
    same = ("trajectories", "calls", "bytes", "channels", "oldest_at", "newest_at")
    plan = retain(old, older_than_s=86400, dry_run=True)
    assert plan["dry_run"] is True and plan["blobs"] == 0
    assert (plan["trajectories"], plan["calls"], plan["channels"]) == (40, 120, {"train": 40})
    assert retain(old, older_than_s=86400, dry_run=True) == plan
    before = old.db.stat().st_size
    gone = retain(old, older_than_s=86400)
    assert {name: gone[name] for name in same} == {name: plan[name] for name in same}
    assert gone["blobs"] == 40
    assert gone["freed_bytes"] > 30 * 8000
    assert gone["content_bytes"] == plan["content_bytes"] - plan["bytes"]
    rows = old.get("/pool/trajectories").json()["trajectories"]
    assert [row["trajectory_uid"] for row in rows] == [young]
    stats = old.get("/pool/stats").json()["channels"]["train"]
    assert stats["groups"] == {"open": 0, "ready": 1, "leased": 0, "acked": 0, "dropped": 0}
    assert (stats["steps"], stats["trajectories"]) == (1, {"open": 0, "complete": 1})
    assert pool.leased() == ["young"]
    assert old.stop() == 0
    assert old.db.stat().st_size <= max(before, 1) - gone["freed_bytes"] + (1 << 20)


def test_a_size(old: GatewayProcess) -> None:
    whole = retain(old, max_bytes=2**62, dry_run=True)["content_bytes"]
    gone = retain(old, max_bytes=whole // 2)
    assert 18 <= gone["trajectories"] <= 24
    assert gone["content_bytes"] <= whole // 2
    assert retain(old, max_bytes=whole // 2)["trajectories"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"older_than_s": 0},
        {"older_than_s": 3599},
        {"older_than_s": "30d"},
        {"max_bytes": -1},
        {"max_bytes": 2**70},
        {"older_than_s": 86400, "keep": ["x"]},
        {"older_than_s": 86400, "n_rollouts": 0},
    ],
    ids=str,
)
def test_limits_that_are_none(wrong: dict[str, Any], shared: GatewayProcess) -> None:
    check_problem(shared.post("/pool/retain", wrong), 422)


def test_a_gateway_does_it_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_retention, "_FIRST_S", 0.0)
    monkeypatch.setattr(pool_retention, "_EVERY_S", 0.01)
    fill(tmp_path / "store.db", 3)
    told: list[dict[str, Any]] = []

    async def run() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.open()
        log = SimpleNamespace(info=lambda event, **fields: told.append(fields), fault=pytest.fail)
        gateway: Any = SimpleNamespace(store=store, stopping=asyncio.Event(), new_uid=lambda: "ffff", log=log)
        ask = pool_retention.retention_of(Settings(db="sqlite:///x", retain_age_s=86400.0))
        assert ask is not None
        sweeping = asyncio.create_task(pool_retention.sweep_old(gateway, ask))
        while not told:
            await asyncio.sleep(0.01)
        gateway.stopping.set()
        await asyncio.wait_for(sweeping, 30)
        await store.close()

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [one["trajectories"] for one in told] == [4]
    assert pool_retention.retention_of(Settings(db="sqlite:///x")) is None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def test_a_gateway_that_is_killed_in_the_middle_leaves_whole_trajectories(tmp_path: Path) -> None:
    fill(tmp_path / "gateway.db", 30, steps=4)
    chance = random.Random(3)
    stub = StubThread()
    try:
        for _ in range(4):
            gateway = GatewayProcess(stub, tmp_path / "gateway.db")
            try:
                requests.post(
                    f"{gateway.url}/pool/retain",
                    json={"older_than_s": 86400},
                    timeout=(5, 0.02 + chance.random() / 8),
                )
            except requests.Timeout:
                pass
            finally:
                gateway.kill()
            check(tmp_path / "gateway.db")
        gateway = GatewayProcess(stub, tmp_path / "gateway.db")
        try:
            retain(gateway, older_than_s=86400)
            wait_until(lambda: leavings(tmp_path / "gateway.db") == 0)
            assert gateway.get("/pool/stats").json()["channels"]["train"]["steps"] == 8  # the newest round
        finally:
            gateway.kill()
    finally:
        stub.close()
    check(tmp_path / "gateway.db")


def check(path: Path) -> None:
    """Every trajectory that is there is there whole, with what it names, and the counts agree with it."""

    async def run() -> None:
        store = SqliteStore(path)
        await store.open()
        try:
            sessions = await store.sessions()
            for one in sessions:
                records = await store.records(one.uid)
                assert len(records) == one.calls == 4
                assert verify_chain(records) is None
            rows = (await store.steps({}, 1000, None)).rows
            assert len(rows) == 4 * len(sessions)
            assert all(row.metadata["of"] in row.trajectory_uid for row in rows)
            stats = (await store.stats(None, 2))["train"]
            assert (stats["steps"], stats["trajectories"]["complete"]) == (len(rows), len(sessions))
            assert stats["groups"]["acked"] == len({row.prompt_uid for row in rows})
        finally:
            await store.close()

    asyncio.run(run())


def leavings(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return int(db.execute("SELECT count(*) FROM leavings").fetchone()[0])


def test_leases_acks_and_late_steps_meanwhile(tmp_path: Path) -> None:
    fill(tmp_path / "gateway.db", 60, steps=2)
    with running_gateway(tmp_path) as gateway:
        pool = Channel(gateway, "train")
        going = ThreadPoolExecutor(1).submit(
            requests.post, f"{gateway.url}/pool/retain", json={"older_than_s": 86400}, timeout=60
        )
        seen = 0
        while not going.done() or seen < 20:
            uid = pool.rollout(f"new-{seen}")
            [lease] = pool.lease()
            assert [run["trajectory_uid"] for run in lease["trajectories"]] == [uid]
            # A late repeat of a step that goes, or has gone: stored once, or made anew; never half of it.
            late = {"trajectory_uid": f"old-{seen % 60}-0", "prompt_ids": [1], "response_ids": [2], "step_index": 0}
            assert gateway.post("/submit_steps", {"steps": [late]}).status_code in (200, 409)
            assert pool.ack(lease).json() == {"acked": 1}
            seen += 1
        assert going.result().json()["trajectories"] >= 118
        groups = gateway.get("/pool/stats").json()["channels"]["train"]["groups"]
        assert groups["acked"] in range(seen, seen + 3)
