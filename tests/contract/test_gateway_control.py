"""A trainer's loop: pause, change weights, say which they are, resume; over one gateway and over two."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from tests.contract.gateway_calls import chat, check_openai, check_problem, fresh, init, step, steps_of, submit
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.stand_ins.engine_stub import Fault

WORDS = {"wait_s": 20, "retry_after_s": 7, "reason": "new weights"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as one:
        yield one


@pytest.fixture
def gateway(running: GatewayProcess) -> Iterator[GatewayProcess]:
    """It takes calls when the test begins, and no weights were forced back."""
    yield running
    running.stub.heal()
    running.stub.stub.pace_s = 0
    assert running.post("/resume").status_code == 200


@pytest.fixture
def named(gateway: GatewayProcess) -> int:
    """The version of the weights before the test."""
    version = gateway.get("/weights").json()["version"]
    return version if version is not None else int(gateway.post("/weights", {"version": 10}).json()["version"])


@pytest.fixture
def second(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """Another gateway over the same store."""
    other = GatewayProcess(gateway.stub, gateway.db, "--upstream-timeout", "20")
    yield other
    other.kill()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def slow_call(gateway: GatewayProcess, threads: ThreadPoolExecutor, after: float = 1.0) -> Future[requests.Response]:
    """A call that the engine has and does not answer yet."""
    before, path = len(gateway.stub.requests), f"{init(gateway)['path']}/chat/completions"
    gateway.stub.spoil(Fault("slow", after=after))
    asked = threads.submit(requests.post, gateway.url + path, json=chat(), timeout=60)
    wait_until(lambda: len(gateway.stub.requests) > before)
    return asked


def model_routes(gateway: GatewayProcess) -> list[str]:
    session = gateway.post("/sessions/create", {}).json()["uuid"]
    base = init(gateway)["path"]
    names = ("chat/completions", "completions")
    fixed = [f"/v1/{name}" for name in (*names, "embeddings")]
    return [*fixed, *(f"/{session}/v1/{name}" for name in names), *(f"{base}/{name}" for name in names)]


# Pausing ---------------------------------------------------------------------------------------------------------


def test_every_model_route_is_refused_while_paused_and_nothing_else_is(gateway: GatewayProcess) -> None:
    routes = model_routes(gateway)
    asked = len(gateway.stub.requests)
    told = gateway.post("/pause", WORDS).json()
    assert (told["paused"], told["in_flight"], told["reason"]) == (True, 0, "new weights")
    for path in routes:
        for stream in (False, True):
            refused = gateway.post(path, {**chat(stream=stream), "prompt": "a", "input": "a"})
            error = check_openai(refused, 429, "paused")
            assert refused.headers["retry-after"] == "7"
            assert "new weights" in error["message"]
    check_problem(gateway.post("/generate", {"prompt_ids": [1]}), 429, "paused")
    assert len(gateway.stub.requests) == asked
    assert gateway.get("/ready").status_code == gateway.get("/health").status_code == 200
    assert gateway.post("/sessions/create", {}).status_code == 200
    channel = fresh()
    assert submit(gateway, step(fresh(), is_last=True), channel=channel).status_code == 200
    assert len(gateway.post("/pool/lease", {"channel": channel}).json()["leases"]) == 1
    assert gateway.post("/resume").json()["paused"] is False
    assert gateway.post(routes[-1], {"prompt": "a"}).status_code == 200


def test_pausing_waits_for_what_is_in_flight_and_breaks_nothing_off(
    gateway: GatewayProcess, threads: ThreadPoolExecutor
) -> None:
    asked = slow_call(gateway, threads)
    assert gateway.post("/pause").json()["in_flight"] == 1
    told = gateway.post("/pause", WORDS).json()
    assert (told["in_flight"], told["silent"]) == (0, 0)
    assert asked.result(5).status_code == 200


def test_waiting_ends_and_says_how_many_are_left(gateway: GatewayProcess, threads: ThreadPoolExecutor) -> None:
    asked = [slow_call(gateway, threads, 2) for _ in range(3)]
    began = time.monotonic()
    assert gateway.post("/pause", {"wait_s": 0.2}).json()["in_flight"] == 3
    assert time.monotonic() - began < 2
    assert [one.result(20).status_code for one in asked] == [200] * 3


def test_a_stream_is_in_flight_until_its_last_byte(gateway: GatewayProcess, threads: ThreadPoolExecutor) -> None:
    gateway.stub.stub.pace_s = 0.1
    with gateway.post(f"{init(gateway)['path']}/chat/completions", chat(stream=True), stream=True) as reply:
        assert gateway.get("/pause").json() | {"since": None} == {
            "paused": False,
            "since": None,
            "in_flight": 1,
            "gateways": 1,
            "silent": 0,
        }
        waiting = threads.submit(requests.post, f"{gateway.url}/pause", json=WORDS, timeout=60)
        assert "[DONE]" in reply.text
    assert waiting.result(20).json()["in_flight"] == 0


def test_pausing_and_resuming_again_changes_nothing(gateway: GatewayProcess) -> None:
    first = gateway.post("/pause", WORDS).json()
    again = gateway.post("/pause", {"reason": "still"}).json()
    assert (again["since"], again["reason"]) == (first["since"], "still")
    assert gateway.post("/resume").json()["paused_s"] is not None
    assert gateway.post("/resume").json() == {"paused": False, "paused_s": None}
    check_problem(gateway.get("/resume"), 405)


@pytest.mark.parametrize(
    "body", [{"wait_s": -1}, {"wait_s": 1e9}, {"wait_s": "1"}, {"retry_after_s": 0}, {"reason": "x" * 501}, [], b"null"]
)
def test_a_pause_that_is_none_is_refused(gateway: GatewayProcess, body: Any) -> None:
    check_problem(gateway.post("/pause", body), 422)
    assert gateway.get("/pause").json()["paused"] is False


def test_a_pause_outlives_a_restart(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        gateway.post("/pause", WORDS)
        gateway.post("/weights", {"version": 4})
        gateway.kill()
    with running_gateway(tmp_path) as again:
        check_openai(again.post("/v1/chat/completions", chat()), 429, "paused")
        assert again.get("/weights").json() == {"version": 4}
        assert again.get("/pause").json()["reason"] == "new weights"
        assert again.post("/resume").status_code == 200
        assert again.post("/v1/chat/completions", chat()).status_code == 200


def test_the_sdk_comes_again_by_itself(gateway: GatewayProcess, threads: ThreadPoolExecutor) -> None:
    gateway.post("/pause", {"retry_after_s": 1})
    client = openai.OpenAI(base_url=f"{gateway.url}{init(gateway)['path']}/v1", api_key="x", max_retries=8)
    asked = threads.submit(
        client.chat.completions.create, model="default", messages=[{"role": "user", "content": "What?"}]
    )
    wait_until(lambda: 'moorage_calls_refused_total{reason="paused"} 0' not in gateway.get("/metrics").text)
    gateway.post("/resume")
    assert asked.result(30).choices[0].finish_reason == "stop"
    client.close()


def test_a_pause_that_the_store_cannot_take_is_no_pause(gateway: GatewayProcess, named: int) -> None:
    away = gateway.db.with_suffix(".away")
    gateway.db.rename(away)
    check_problem(gateway.post("/pause", WORDS), 503, "store_unavailable")
    check_problem(gateway.post("/weights", {"version": named + 1}), 503, "store_unavailable")
    away.rename(gateway.db)
    wait_until(lambda: gateway.post("/v1/chat/completions", chat()).status_code == 200)
    wait_until(lambda: gateway.post("/weights", {"version": named + 1}).status_code == 200)


# Several gateways ------------------------------------------------------------------------------------------------


def test_a_pause_counts_for_all_gateways_and_waits_for_their_calls(
    gateway: GatewayProcess, second: GatewayProcess, threads: ThreadPoolExecutor
) -> None:
    asked = slow_call(second, threads)
    told = gateway.post("/pause", WORDS).json()
    assert (told["in_flight"], told["gateways"], told["silent"]) == (0, 2, 0)
    assert asked.done() or asked.result(5).status_code == 200
    for one in (gateway, second):
        check_openai(one.post("/v1/chat/completions", chat()), 429, "paused")
    second.post("/resume")
    wait_until(lambda: gateway.post("/v1/chat/completions", chat()).status_code == 200, within_s=5)


def test_a_gateway_that_was_killed_holds_up_no_trainer(gateway: GatewayProcess, second: GatewayProcess) -> None:
    second.kill()
    began = time.monotonic()
    told = gateway.post("/pause", WORDS).json()
    assert (told["in_flight"], told["gateways"], told["silent"]) == (0, 1, 0)
    assert time.monotonic() - began < 15


def test_a_gateway_that_ends_takes_its_name_away(gateway: GatewayProcess, second: GatewayProcess) -> None:
    assert gateway.get("/pause").json()["gateways"] == 2
    assert second.stop() == 0
    assert gateway.get("/pause").json()["gateways"] == 1


# Weights ---------------------------------------------------------------------------------------------------------


def test_calls_are_stamped_with_the_version_that_was_named(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        second = GatewayProcess(gateway.stub, gateway.db)
        made = init(gateway)
        registered = {"metadata": {"policy_version": 2}}
        assert gateway.post(f"{made['path']}/register_trajectory", registered).status_code == 200
        path = f"{made['path']}/chat/completions"
        gateway.post(path, chat())
        assert gateway.get("/weights").json() == {"version": None}
        assert gateway.post("/weights", {"version": 5}).json() == {"version": 5, "before": None}
        gateway.post(path, chat(seed=1))
        wait_until(lambda: second.get("/weights").json() == {"version": 5}, within_s=5)
        assert second.post("/weights", {"version": 6}).json() == {"version": 6, "before": 5}
        second.post(path, chat(seed=2))
        assert [one["policy_version"] for one in steps_of(gateway, made["trajectory_uid"])] == [2, 5, 6]
        second.kill()


def test_weights_never_go_back_unless_forced(gateway: GatewayProcess, named: int) -> None:
    then = named + 7
    assert gateway.post("/weights", {"version": then}).json() == {"version": then, "before": named}
    assert gateway.post("/weights", {"version": then}).json() == {"version": then, "before": then}
    told = check_problem(gateway.post("/weights", {"version": then - 1}), 409, "weights_older")
    assert told["version"] == then
    assert gateway.get("/weights").json() == {"version": then}
    forced = {"version": then - 2, "force": True}
    assert gateway.post("/weights", forced).json() == {"version": then - 2, "before": then}
    assert gateway.post("/weights", {"version": then - 1}).json() == {"version": then - 1, "before": then - 2}


def test_of_versions_named_at_once_the_highest_stays(
    gateway: GatewayProcess, second: GatewayProcess, threads: ThreadPoolExecutor, named: int
) -> None:
    gate = threading.Barrier(8)

    def name(version: int) -> int:
        gate.wait(20)
        url = (gateway, second)[version % 2].url
        return requests.post(f"{url}/weights", json={"version": version}, timeout=30).status_code

    versions = range(named + 1, named + 9)
    answered = list(threads.map(name, versions))
    assert answered[-1] == 200
    assert set(answered) <= {200, 409}
    highest = {"version": versions[-1]}
    for one in (gateway, second):
        wait_until(lambda one=one: one.get("/weights").json() == highest, within_s=5)  # type: ignore[misc]


@pytest.mark.parametrize("version", [None, -1, "1", 1.5, True, 2**63])
def test_a_version_that_is_none_is_refused(gateway: GatewayProcess, version: Any) -> None:
    check_problem(gateway.post("/weights", {"version": version}), 422)
    check_problem(gateway.post("/weights", {}), 422)


def test_a_call_is_stamped_with_the_version_at_its_start(
    gateway: GatewayProcess, threads: ThreadPoolExecutor, named: int
) -> None:
    made, before = init(gateway), len(gateway.stub.requests)
    gateway.stub.spoil(Fault("slow", after=1))
    asked = threads.submit(gateway.post, f"{made['path']}/chat/completions", chat())
    wait_until(lambda: len(gateway.stub.requests) > before)
    assert requests.post(f"{gateway.url}/weights", json={"version": named + 1}, timeout=30).status_code == 200
    assert asked.result(20).status_code == 200
    assert [one["policy_version"] for one in steps_of(gateway, made["trajectory_uid"])] == [named]


# At once ---------------------------------------------------------------------------------------------------------


def test_no_more_calls_than_allowed_are_under_way(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    with running_gateway(tmp_path, "--max-concurrency", "2") as gateway:
        asked = [slow_call(gateway, threads) for _ in range(2)]
        refused = gateway.post("/v1/chat/completions", chat())
        check_openai(refused, 429, "too_many_calls")
        assert refused.headers["retry-after"] == "1"
        assert gateway.get("/ready").status_code == 200
        assert [one.result(20).status_code for one in asked] == [200, 200]
        for _ in range(4):  # a place is given back however a call ends
            gateway.stub.spoil(Fault("status", status=400))
            assert gateway.post("/v1/chat/completions", chat()).status_code == 400
            assert gateway.post("/v1/chat/completions", json.dumps([]).encode()).status_code == 400
            with gateway.post("/v1/chat/completions", chat(stream=True), stream=True) as left:
                left.close()
        wait_until(lambda: gateway.get("/pause").json()["in_flight"] == 0)
        assert gateway.post("/v1/chat/completions", chat()).status_code == 200
