"""A trainer's loop over two gateways and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.contract.gateway_calls import chat, check_openai, init, steps_of
from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until
from tests.real.parts.postgres import Postgres
from tests.stand_ins.engine_stub import Fault

pytestmark = pytest.mark.postgres


@pytest.fixture
def gateways(postgres: Postgres, tmp_path: Path) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    url = postgres.url(postgres.new_schema())
    stub = StubThread()
    made = [GatewayProcess(stub, tmp_path / f"{number}.db", "--db", url) for number in range(2)]
    yield made[0], made[1]
    for gateway in made:
        gateway.kill()
    stub.close()


def test_a_trainers_loop_over_two_gateways(gateways: tuple[GatewayProcess, GatewayProcess]) -> None:
    first, second = gateways
    made, before = init(second), len(first.stub.requests)
    path = f"{made['path']}/chat/completions"
    first.stub.spoil(Fault("slow", after=1))
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(requests.post, second.url + path, json=chat(), timeout=60)
        wait_until(lambda: len(first.stub.requests) > before)
        told = first.post("/pause", {"wait_s": 20}).json()
        assert (told["in_flight"], told["gateways"], told["silent"]) == (0, 2, 0)
        assert asked.result(5).status_code == 200
    check_openai(second.post(path, chat()), 429, "paused")
    assert first.post("/weights", {"version": 3}).json() == {"version": 3, "before": None}
    wait_until(lambda: second.get("/weights").json() == {"version": 3}, within_s=10)
    assert second.post("/weights", {"version": 2}).status_code == 409
    assert second.post("/resume").status_code == 200
    wait_until(lambda: first.post("/v1/chat/completions", chat()).status_code == 200, within_s=10)
    assert second.post(path, chat(seed=1)).status_code == 200
    assert [one["policy_version"] for one in steps_of(first, made["trajectory_uid"])] == [0, 3]


def test_metrics_of_a_store_that_is_a_server(gateways: tuple[GatewayProcess, GatewayProcess]) -> None:
    first, second = gateways
    assert first.post(f"{init(first)['path']}/chat/completions", chat()).status_code == 200
    told = first.get("/metrics").text
    assert "moorage_store_commit_seconds_count 0.0" not in told
    assert "moorage_store_disk_free_bytes" not in told
    assert 'moorage_pool_steps{channel="train"} 1.0' in second.get("/metrics").text
