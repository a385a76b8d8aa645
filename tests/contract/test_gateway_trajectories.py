"""Trajectories over HTTP: what is known, what is fixed, model calls, their faults, streams and retries.

One test for each decision of the contract, numbered as there; 10 and after are in test_gateway_steps.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.gateway_calls import (
    SAID,
    SeveralChoices,
    chat,
    check_openai,
    check_problem,
    events_of,
    fresh,
    init,
    row_of,
    send_and_leave,
    step,
    steps_of,
    streamed,
    submit,
)
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.stand_ins.engine_stub import Fault


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), replies=SeveralChoices()) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess) -> Iterator[GatewayProcess]:
    """The module's gateway, with an engine that is well again after the test."""
    yield running
    running.stub.heal()
    running.stub.stub.pace_s = 0
    wait_until(lambda: running.get("/health").status_code == 200, within_s=15)


# 1 ---------------------------------------------------------------------------------------------------------------


def test_01_unknown_trajectories_are_not_found(gateway: GatewayProcess) -> None:
    uid = fresh()
    for path in (f"/{uid}/p", f"/{uid}/p/v1"):
        check_openai(gateway.post(f"{path}/chat/completions", chat()), 404)
        check_openai(gateway.get(f"{path}/models"), 404)
        check_problem(gateway.post(f"{path}/register_trajectory"), 404)
        check_problem(gateway.post(f"{path}/complete_trajectory"), 404)
    check_problem(gateway.post(f"/complete_trajectory/{uid}"), 404)
    assert gateway.get(f"/pool/trajectories?trajectory_uid={uid}").json()["trajectories"] == []


def test_01_init_submit_and_generate_make_known(gateway: GatewayProcess) -> None:
    made = init(gateway)
    assert gateway.post(f"/complete_trajectory/{made['trajectory_uid']}").status_code == 200
    submitted = fresh()
    assert submit(gateway, step(submitted)).status_code == 200
    assert gateway.post(f"/complete_trajectory/{submitted}").status_code == 200
    generated = fresh()
    asked = {"trajectory_uid": generated, "prompt_uid": "p", "messages": SAID}
    assert gateway.post("/generate", asked).status_code == 200
    assert gateway.post(f"/{generated}/p/v1/chat/completions", chat()).status_code == 200


def test_01_with_compat_claw_unknown_ones_are_accepted(tmp_path: Any) -> None:
    with running_gateway(tmp_path, "--compat", "claw") as lenient:
        uid = fresh()
        assert lenient.post(f"/complete_trajectory/{fresh()}").json() == {"status": "ok"}
        assert lenient.post(f"/{uid}/p/v1/register_trajectory", {"channel": "val"}).json() == {"status": "ok"}
        assert lenient.post(f"/{uid}/p/v1/chat/completions", chat()).status_code == 200
        assert lenient.post(f"/{uid}/p/v1/complete_trajectory", {"reward": 1}).json() == {"status": "ok"}
        assert [one["channel"] for one in steps_of(lenient, uid)] == ["val"]


# 2, 3 ------------------------------------------------------------------------------------------------------------


def test_02_init(gateway: GatewayProcess) -> None:
    first, second = (gateway.post("/init_trajectory", headers={"host": "gate.example:9"}).json() for _ in range(2))
    assert first["prompt_uid"] != second["prompt_uid"]
    base_url = f"http://gate.example:9/{first['trajectory_uid']}/{first['prompt_uid']}"
    assert (first["base_url"], first["openai_base_url"]) == (base_url, f"{base_url}/v1")
    given = init(gateway, prompt_uid="sum-1", channel="val", metadata={"task": "sum"})
    assert given["prompt_uid"] == "sum-1"
    assert submit(gateway, step(given["trajectory_uid"])).status_code == 200
    row = row_of(gateway, given["trajectory_uid"])
    assert (row["prompt_uid"], row["channel"], row["metadata"]) == ("sum-1", "val", {"task": "sum"})
    check_problem(gateway.post("/init_trajectory", b"{"), 400)
    check_problem(gateway.post("/init_trajectory", {"metadata": 3}), 422)


def test_03_prompt_uid_is_fixed_by_its_first_use(gateway: GatewayProcess) -> None:
    given = init(gateway, prompt_uid="given")["trajectory_uid"]
    check_openai(gateway.post(f"/{given}/other/v1/chat/completions", chat()), 409)
    check_problem(submit(gateway, step(given, prompt_uid="other")), 409)
    registered = init(gateway)["trajectory_uid"]
    assert gateway.post(f"/{registered}/mine/v1/register_trajectory").status_code == 200
    check_problem(gateway.post(f"/{registered}/other/v1/register_trajectory"), 409)
    called = init(gateway)["trajectory_uid"]
    assert gateway.post(f"/{called}/mine/v1/chat/completions", chat()).status_code == 200
    check_openai(gateway.post(f"/{called}/other/v1/chat/completions", chat()), 409)
    stepped = fresh()
    assert submit(gateway, step(stepped, prompt_uid="mine")).status_code == 200
    check_problem(submit(gateway, step(stepped, 1, prompt_uid="other")), 409)
    assert {row_of(gateway, uid)["prompt_uid"] for uid in (registered, called, stepped)} == {"mine"}


@pytest.mark.parametrize("uid", [".", "..", "a b", "a/b", "", "ä", "x" * 129, "v1"])
def test_03_what_is_no_uid(gateway: GatewayProcess, uid: str) -> None:
    check_problem(gateway.post("/init_trajectory", {"prompt_uid": uid}), 422)
    if uid:  # an empty one in a step means none
        check_problem(submit(gateway, step(fresh(), prompt_uid=uid)), 422)
    check_problem(submit(gateway, step(uid)), 422)


@pytest.mark.parametrize("uid", ["sessions", "pool", "v1", "docs", "generate", "ready", "init_trajectory"])
def test_03_first_parts_of_routes_are_no_trajectories(gateway: GatewayProcess, uid: str) -> None:
    check_problem(submit(gateway, step(uid)), 422)
    assert gateway.post(f"/{uid}/p/chat/completions", chat()).status_code in (404, 405)


def test_03_what_is_no_uid_in_a_path(gateway: GatewayProcess) -> None:
    check_problem(gateway.post("/complete_trajectory/a%21b"), 422)
    check_problem(gateway.post("/a%21b/p/v1/register_trajectory"), 422)
    check_openai(gateway.post("/a%21b/p/v1/chat/completions", chat()), 422)


# 4, 5 ------------------------------------------------------------------------------------------------------------


def test_04_the_first_step_fixes_the_channel(gateway: GatewayProcess) -> None:
    made = init(gateway, channel="one")
    uid, base = made["trajectory_uid"], made["path"]
    for channel in ("two", "three"):
        assert gateway.post(f"{base}/v1/register_trajectory", {"channel": channel}).status_code == 200
    assert gateway.post(f"{base}/v1/chat/completions", chat()).status_code == 200
    assert gateway.post(f"{base}/v1/register_trajectory", {"channel": "three"}).status_code == 200
    check_problem(gateway.post(f"{base}/v1/register_trajectory", {"channel": "two"}), 409)
    check_problem(submit(gateway, step(uid, 1), channel="two"), 409)
    check_problem(gateway.post(f"/complete_trajectory/{uid}", {"channel": "two"}), 409)
    assert submit(gateway, step(uid, 1)).status_code == 200
    assert gateway.post(f"/complete_trajectory/{uid}", {"reward": 1}).status_code == 200
    assert {one["channel"] for one in steps_of(gateway, uid)} == {"three"}
    assert row_of(gateway, uid)["state"] == "complete"
    plain = fresh()
    assert submit(gateway, step(plain)).status_code == 200
    assert row_of(gateway, plain)["channel"] == "train"
    check_problem(gateway.post(f"{base}/v1/register_trajectory", {"channel": "a b"}), 422)


def test_05_register(gateway: GatewayProcess) -> None:
    made = init(gateway)
    for body in (None, {}, {"metadata": {"task": "sum", "policy_version": 3}}):
        reply = gateway.post(f"{made['path']}/register_trajectory", body)
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
    assert gateway.post(f"{made['path']}/chat/completions", chat()).status_code == 200
    [stored] = steps_of(gateway, made["trajectory_uid"])
    assert stored["policy_version"] == 3
    assert stored["metadata"].items() >= {"task": "sum", "policy_version": 3}.items()
    check_problem(gateway.post(f"{made['path']}/register_trajectory", b"no"), 400)


# 6 ---------------------------------------------------------------------------------------------------------------


def test_06_model_calls_become_steps(gateway: GatewayProcess) -> None:
    made = init(gateway)
    before = len(gateway.stub.requests)
    for path, body in (
        (f"{made['path']}/v1/chat/completions", chat(n=3)),
        (f"{made['path']}/chat/completions", chat(model="default", x_unknown={"kept": [1]})),
        (f"{made['path']}/v1/completions", {"prompt": [5, 6, 7]}),
    ):
        reply = gateway.post(path, body)
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["choices"]) == body.get("n", 1)
        assert 'token_ids":[' not in reply.text.replace(" ", "")
        assert reply.json()["system_fingerprint"] == "vllm-stub"
    asked = [one.json() for one in gateway.stub.requests[before:]]
    assert [one["model"] for one in asked] == ["stub"] * 3
    assert asked[1]["x_unknown"] == {"kept": [1]}
    stored = steps_of(gateway, made["trajectory_uid"])
    assert [one["step_index"] for one in stored] == [0, 1, 2, 3, 4]
    assert all(not one["is_last"] and one["reward"] is None for one in stored)
    assert all(len(one["rollout_log_probs"]) == len(one["response_ids"]) for one in stored)
    assert stored[4]["prompt_ids"] == [5, 6, 7]


def test_06_calls_at_once_are_numbered_without_gaps(gateway: GatewayProcess) -> None:
    made = init(gateway)
    with ThreadPoolExecutor(8) as pool:
        bodies = [chat(seed=seed) for seed in range(24)]
        replies = list(pool.map(lambda body: gateway.post(f"{made['path']}/v1/chat/completions", body), bodies))
    assert {reply.status_code for reply in replies} == {200}
    assert sorted(one["step_index"] for one in steps_of(gateway, made["trajectory_uid"])) == list(range(24))


# 7 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"messages": 1}', b'{"messages": []}', b'{"messages": [1]}'])
def test_07_what_is_no_chat_request(gateway: GatewayProcess, body: bytes) -> None:
    made = init(gateway)
    check_openai(gateway.post(f"{made['path']}/v1/chat/completions", body), 400)
    _check_usable(gateway, made)


def test_07_a_completed_trajectory_takes_no_call(gateway: GatewayProcess) -> None:
    made = init(gateway)
    gateway.post(f"{made['path']}/v1/complete_trajectory")
    check_openai(gateway.post(f"{made['path']}/v1/chat/completions", chat()), 409)


def test_07_an_engines_4xx_is_passed_on_and_asked_once(gateway: GatewayProcess) -> None:
    made = init(gateway)
    before = len(gateway.stub.requests)
    error = {"message": "slow down", "type": "rate", "param": None, "code": 429}
    gateway.stub.spoil(Fault("status", 429, {"error": error}, {"Retry-After": "7"}))
    reply = gateway.post(f"{made['path']}/v1/chat/completions", chat())
    assert check_openai(reply, 429)["message"] == "slow down"
    assert reply.headers["retry-after"] == "7"
    assert len(gateway.stub.requests) == before + 1
    _check_usable(gateway, made)


def test_07_an_engines_5xx_is_passed_on_after_four_attempts_at_most(gateway: GatewayProcess) -> None:
    made = init(gateway)
    before = len(gateway.stub.requests)
    gateway.stub.spoil(*(Fault("status", 500, {"error": {"message": f"no {n}"}}) for n in range(8)))
    reply = gateway.post(f"{made['path']}/v1/chat/completions", chat())
    assert (reply.status_code, reply.json()["error"]["message"][:3]) == (500, "no ")
    assert 1 <= len(gateway.stub.requests) - before <= 4
    gateway.stub.heal()
    assert gateway.get("/health").json()["healthy_servers"] == 1
    _check_usable(gateway, made)


@pytest.mark.parametrize("kind", ["close", "garbage", "silence", "die"])
def test_07_an_engine_that_is_gone_or_silent(gateway: GatewayProcess, kind: Any) -> None:
    made = init(gateway)
    gateway.stub.spoil(*(Fault(kind) for _ in range(12)))
    began = time.monotonic()
    reply = gateway.post(f"{made['path']}/v1/chat/completions", chat())
    check_openai(reply, reply.status_code)
    assert reply.status_code in ((502, 503, 504) if kind == "silence" else (502, 503))
    assert time.monotonic() - began < 20
    gateway.stub.heal()
    wait_until(lambda: gateway.get("/health").status_code == 200, within_s=10)
    _check_usable(gateway, made)


@pytest.mark.parametrize("kind", ["no_ids", "short_logprobs", "abort"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_07_a_reply_that_cannot_be_recorded(gateway: GatewayProcess, kind: Any, path: str) -> None:
    made = init(gateway)
    gateway.stub.spoil(Fault(kind))
    body = chat() if "chat" in path else {"prompt": [5, 6]}
    check_openai(gateway.post(made["path"] + path, body), 502)
    _check_usable(gateway, made)


# 8 ---------------------------------------------------------------------------------------------------------------


def test_08_chunks_are_passed_as_they_come(gateway: GatewayProcess) -> None:
    made = init(gateway)
    gateway.stub.stub.pace_s = 0.3
    came = []
    with gateway.post(f"{made['path']}/v1/chat/completions", chat(stream=True), stream=True) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines(decode_unicode=True):
            came.append((time.monotonic(), line))
    said = events_of(line for _, line in came)
    assert said[-1] == "[DONE]"
    assert 'token_ids":[' not in "".join(said).replace(" ", "")
    assert streamed("\n".join(line for _, line in came))[0].strip()
    assert came[-1][0] - came[0][0] > 0.9, "they came together"
    [stored] = steps_of(gateway, made["trajectory_uid"])
    assert stored["delivered"]


@pytest.mark.parametrize("streams", [True, False])
def test_08_a_client_that_goes_away_stops_the_engine(gateway: GatewayProcess, streams: bool) -> None:
    made = init(gateway)
    before = len(gateway.stub.requests)
    gateway.stub.stub.pace_s = 1
    if not streams:
        gateway.stub.spoil(Fault("slow", after=8))
    connection = send_and_leave(gateway, f"{made['path']}/v1/chat/completions", chat(stream=streams))
    wait_until(lambda: len(gateway.stub.requests) > before)
    if streams:
        assert connection.recv(65536)
    connection.close()
    left = time.monotonic()
    wait_until(lambda: gateway.stub.requests[before].gone, within_s=10)
    assert time.monotonic() - left < 2
    gateway.stub.stub.pace_s = 0
    assert all(not one["delivered"] for one in steps_of(gateway, made["trajectory_uid"]))
    _check_usable(gateway, made)


def test_08_an_engine_that_dies_in_a_stream(gateway: GatewayProcess) -> None:
    made = init(gateway)
    gateway.stub.spoil(Fault("die", after=3))
    with gateway.post(f"{made['path']}/v1/chat/completions", chat(stream=True), stream=True) as reply:
        said = "".join(chunk.decode() for chunk in reply.iter_content(None))
    assert "[DONE]" not in said
    assert all(not one["delivered"] for one in steps_of(gateway, made["trajectory_uid"]))
    _check_usable(gateway, made)


# 9 ---------------------------------------------------------------------------------------------------------------


EVIDENCE = [({"idempotency-key": "k1"}, {"idempotency-key": "k1"}), ({}, {"x-stainless-retry-count": "1"})]


@pytest.mark.parametrize(("first", "again"), EVIDENCE)
@pytest.mark.parametrize("streams", [False, True])
def test_09_a_retry_gets_the_reply_again(
    gateway: GatewayProcess, first: dict[str, str], again: dict[str, str], streams: bool
) -> None:
    made, body = init(gateway), chat(stream=streams)
    before = len(gateway.stub.requests)
    replies = [gateway.post(f"{made['path']}/v1/chat/completions", body, headers=one) for one in (first, again)]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert len(gateway.stub.requests) == before + 1
    assert len(steps_of(gateway, made["trajectory_uid"])) == 1
    if streams:
        assert streamed(replies[0].text) == streamed(replies[1].text)
    else:
        assert replies[0].json() == replies[1].json()


def test_09_a_retry_of_a_call_in_flight_waits_for_it(gateway: GatewayProcess) -> None:
    made = init(gateway)
    before = len(gateway.stub.requests)
    gateway.stub.spoil(Fault("slow", after=1))
    with ThreadPoolExecutor(2) as pool:
        headers = {"idempotency-key": "same"}
        asked = [
            pool.submit(gateway.post, f"{made['path']}/v1/chat/completions", chat(), headers=headers) for _ in range(2)
        ]
        first, second = (one.result() for one in asked)
    assert first.json() == second.json()
    assert len(gateway.stub.requests) == before + 1
    assert len(steps_of(gateway, made["trajectory_uid"])) == 1


def test_09_the_same_body_without_evidence_is_a_new_sample(gateway: GatewayProcess) -> None:
    made = init(gateway)
    before = len(gateway.stub.requests)
    for headers in ({}, {}, {"idempotency-key": "a"}, {"idempotency-key": "b"}, {"x-stainless-retry-count": "0"}):
        assert gateway.post(f"{made['path']}/v1/chat/completions", chat(), headers=headers).status_code == 200
    assert len(gateway.stub.requests) == before + 5
    assert [one["step_index"] for one in steps_of(gateway, made["trajectory_uid"])] == [0, 1, 2, 3, 4]


def test_09_a_retry_of_a_call_that_failed_is_a_new_call(gateway: GatewayProcess) -> None:
    made = init(gateway)
    gateway.stub.spoil(Fault("status", 400))
    headers = {"idempotency-key": "k"}
    assert gateway.post(f"{made['path']}/v1/chat/completions", chat(), headers=headers).status_code == 400
    assert gateway.post(f"{made['path']}/v1/chat/completions", chat(), headers=headers).status_code == 200
    assert len(steps_of(gateway, made["trajectory_uid"])) == 1


def _check_usable(gateway: GatewayProcess, made: dict[str, str]) -> None:
    """Nothing deliverable was stored so far, and the next call is."""
    assert not [one for one in steps_of(gateway, made["trajectory_uid"]) if one["delivered"]]
    reply = gateway.post(f"{made['path']}/v1/chat/completions", chat(seed=99))
    assert reply.status_code == 200, reply.text
    assert [one["delivered"] for one in steps_of(gateway, made["trajectory_uid"])][-1]
