"""Steps and completion over HTTP: submitted steps, complete, what comes later, generate, rewards, ready, docs.

One test for each decision of the contract, numbered as there; 1 to 9 are in test_gateway_trajectories.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract.gateway_calls import (
    SAID,
    chat,
    check_openai,
    check_problem,
    fresh,
    init,
    row_of,
    step,
    steps_of,
    submit,
)
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway, wait_until
from tests.stand_ins.engine_stub import Fault


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), "--response-length", "77") as gateway:
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess) -> Iterator[GatewayProcess]:
    yield running
    running.stub.heal()


# 10 --------------------------------------------------------------------------------------------------------------


def test_10_steps_are_stored_with_their_defaults(gateway: GatewayProcess) -> None:
    uid = fresh()
    bare = {"trajectory_uid": uid, "prompt_ids": [1], "response_ids": [2, 3], "unknown_field": 1}
    reply = gateway.post("/submit_steps", {"steps": [bare]})
    assert (reply.status_code, reply.json()) == (200, {"accepted": 1, "duplicates": 0})
    [stored] = steps_of(gateway, uid)
    given = ("step_index", "policy_version", "is_last", "reward", "rollout_log_probs", "metadata")
    assert [stored[name] for name in given] == [0, 0, False, None, None, {}]
    assert stored["prompt_uid"]
    assert (stored["prompt_ids"], stored["response_ids"]) == ([1], [2, 3])
    assert "multi_modal_data" not in stored


def test_10_everything_that_was_given_is_kept(gateway: GatewayProcess) -> None:
    uid = fresh()
    full = step(
        uid,
        4,
        prompt_uid="p",
        policy_version=9,
        reward=-0.5,
        rollout_log_probs=[-0.1, -2],
        metadata={"a": [None]},
        multi_modal_data={"image": "x"},
        routed_experts=[[1]],
    )
    assert submit(gateway, full).status_code == 200
    [stored] = steps_of(gateway, uid)
    assert stored.items() >= full.items()
    assert submit(gateway, step(uid, 5, response_ids=[])).status_code == 200


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt_ids": []}, "prompt_ids"),
    ({"prompt_ids": [-1]}, "prompt_ids"),
    ({"prompt_ids": [1.5]}, "prompt_ids"),
    ({"prompt_ids": "12"}, "prompt_ids"),
    ({"prompt_ids": [True]}, "prompt_ids"),
    ({"response_ids": [-3]}, "response_ids"),
    ({"response_ids": None}, "response_ids"),
    ({"step_index": -1}, "step_index"),
    ({"step_index": True}, "step_index"),
    ({"step_index": "0"}, "step_index"),
    ({"step_index": 2**70}, "step_index"),
    ({"policy_version": 2**70}, "policy_version"),
    ({"policy_version": 0.5}, "policy_version"),
    ({"reward": True}, "reward"),
    ({"reward": "1"}, "reward"),
    ({"is_last": 1}, "is_last"),
    ({"rollout_log_probs": [-0.1]}, "rollout_log_probs"),
    ({"rollout_log_probs": [-0.1, -0.1, -0.1]}, "rollout_log_probs"),
    ({"rollout_log_probs": [None, -0.1]}, "rollout_log_probs"),
    ({"metadata": []}, "metadata"),
    ({"trajectory_uid": ""}, "trajectory_uid"),
    ({"trajectory_uid": 7}, "trajectory_uid"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD, ids=[str(wrong) for wrong, _ in BAD])
def test_10_a_wrong_step_is_refused_with_its_batch(gateway: GatewayProcess, wrong: dict[str, Any], field: str) -> None:
    uid = fresh()
    body = check_problem(submit(gateway, step(uid), {**step(uid, 1), **wrong}), 422)
    assert body["errors"][0]["pointer"].startswith(f"/steps/1/{field}")
    assert steps_of(gateway, uid) == []


@pytest.mark.parametrize("missing", ["trajectory_uid", "prompt_ids", "response_ids"])
def test_10_what_a_step_must_have(gateway: GatewayProcess, missing: str) -> None:
    wrong = {name: value for name, value in step(fresh()).items() if name != missing}
    check_problem(gateway.post("/submit_steps", {"steps": [wrong]}), 422)


def test_10_what_is_no_json_number(gateway: GatewayProcess) -> None:
    for word in (b"NaN", b"Infinity"):
        body = b'{"steps": [{"trajectory_uid": "t", "prompt_ids": [1], "response_ids": [2], "reward": %s}]}' % word
        check_problem(gateway.post("/submit_steps", body), 422)
    check_problem(gateway.post("/submit_steps", b"{"), 400)
    check_problem(gateway.post("/submit_steps", b""), 400)
    check_problem(gateway.post("/submit_steps", b"[]"), 422)


def test_10_the_same_step_again(gateway: GatewayProcess) -> None:
    uid = fresh()
    stored = step(uid, reward=1)
    assert submit(gateway, stored).json() == {"accepted": 1, "duplicates": 0}
    assert submit(gateway, stored, step(uid, 1)).json() == {"accepted": 2, "duplicates": 1}
    check_problem(submit(gateway, step(uid, 2), step(uid, reward=2)), 409)
    assert [one["step_index"] for one in steps_of(gateway, uid)] == [0, 1]
    twin = step(fresh())
    assert submit(gateway, twin, twin).json() == {"accepted": 2, "duplicates": 1}
    other = fresh()
    check_problem(submit(gateway, step(other), step(other, reward=1)), 409)
    assert steps_of(gateway, other) == []


def test_10_a_repeat_is_held_against_what_was_submitted(gateway: GatewayProcess) -> None:
    uid = fresh()
    assert submit(gateway, step(uid, reward=1)).status_code == 200
    assert gateway.post(f"/complete_trajectory/{uid}", {"reward": 5}).status_code == 200
    assert submit(gateway, step(uid, reward=1)).json() == {"accepted": 1, "duplicates": 1}
    check_problem(submit(gateway, step(uid, reward=5)), 409)
    [stored] = steps_of(gateway, uid)
    assert (stored["reward"], stored["is_last"]) == (5, True)


# 11, 12 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [True, False])
def test_11_complete(gateway: GatewayProcess, here: bool) -> None:
    made = init(gateway)
    path = f"{made['path']}/v1/complete_trajectory" if here else f"/complete_trajectory/{made['trajectory_uid']}"
    assert submit(gateway, step(made["trajectory_uid"], 3), step(made["trajectory_uid"], 1)).status_code == 200
    for body in (None, {}, {"reward": 0.5}, {"reward": 0.5}, {"reward": 2}):
        assert gateway.post(path, body).json() == {"status": "ok"}
    stored = {one["step_index"]: one for one in steps_of(gateway, made["trajectory_uid"])}
    assert [(stored[n]["is_last"], stored[n]["reward"]) for n in (1, 3)] == [(False, None), (True, 2)]
    row = row_of(gateway, made["trajectory_uid"])
    assert (row["state"], row["reward"]) == ("complete", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row["completed_at"])
    check_problem(gateway.post(path, {"reward": "much"}), 422)


def test_11_is_last_completes(gateway: GatewayProcess) -> None:
    uid = fresh()
    assert submit(gateway, step(uid, is_last=True, reward=1)).status_code == 200
    assert row_of(gateway, uid)["state"] == "complete"


def test_11_a_reward_is_frozen_by_the_lease(gateway: GatewayProcess) -> None:
    uid, channel = fresh(), fresh()
    assert submit(gateway, step(uid), channel=channel).status_code == 200
    for reward in (1, 2):
        assert gateway.post(f"/complete_trajectory/{uid}", {"reward": reward}).status_code == 200
    [lease] = gateway.post("/pool/lease", {"channel": channel}).json()["leases"]
    assert lease["trajectories"][0]["reward"] == 2
    check_problem(gateway.post(f"/complete_trajectory/{uid}", {"reward": 3}), 409)
    assert gateway.post(f"/complete_trajectory/{uid}", {"reward": 2}).status_code == 200
    assert gateway.post(f"/complete_trajectory/{uid}").status_code == 200


def test_12_after_completion(gateway: GatewayProcess) -> None:
    made = init(gateway)
    uid = made["trajectory_uid"]
    assert submit(gateway, step(uid)).status_code == 200
    assert gateway.post(f"/complete_trajectory/{uid}").status_code == 200
    check_problem(submit(gateway, step(uid, 1)), 409)
    check_openai(gateway.post(f"/{uid}/{row_of(gateway, uid)['prompt_uid']}/v1/chat/completions", chat()), 409)
    assert submit(gateway, step(uid)).json() == {"accepted": 1, "duplicates": 1}
    assert len(steps_of(gateway, uid)) == 1


def test_12_a_call_in_flight_is_late(gateway: GatewayProcess) -> None:
    made = init(gateway)
    uid, before = made["trajectory_uid"], len(gateway.stub.requests)
    assert gateway.post(f"{made['path']}/v1/chat/completions", chat()).status_code == 200
    gateway.stub.spoil(Fault("slow", after=1.5))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(gateway.post, f"{made['path']}/v1/chat/completions", chat(seed=2))
        wait_until(lambda: len(gateway.stub.requests) == before + 2)
        assert gateway.post(f"/complete_trajectory/{uid}", {"reward": 1}).status_code == 200
        assert slow.result().status_code == 200
    first, late = steps_of(gateway, uid)
    assert (first["late"], first["is_last"], first["reward"]) == (False, True, 1)
    assert (late["late"], late["is_last"], late["reward"]) == (True, False, None)
    assert (row_of(gateway, uid)["steps"], row_of(gateway, uid)["late_steps"]) == (1, 1)


# 13, 14, 15 ------------------------------------------------------------------------------------------------------


def test_13_generate_from_messages(gateway: GatewayProcess) -> None:
    uid = fresh()
    reply = gateway.post("/generate", {"messages": SAID, "trajectory_uid": uid, "prompt_uid": "p"})
    assert reply.status_code == 200, reply.text
    said = reply.json()
    assert said["response_ids"] == said["token_ids"]
    assert len(said["log_probs"]) == len(said["token_ids"]) > 0
    assert said["prompt_ids"]
    assert (said["stop_reason"], bool(said["response_text"])) == ("stop", True)
    asked = gateway.stub.requests[-1].json()
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"]) == (1.0, 1.0, 77)
    assert steps_of(gateway, uid) == []


def test_13_generate_from_ids(gateway: GatewayProcess) -> None:
    params = {"temperature": 0.25, "max_tokens": 3, "stop": ["x"], "seed": 4}
    reply = gateway.post("/generate", {"prompt_ids": [5, 6, 7], "sampling_params": params})
    assert reply.status_code == 200, reply.text
    assert reply.json()["prompt_ids"] == [5, 6, 7]
    assert gateway.stub.requests[-1].path == "/v1/completions"
    assert gateway.stub.requests[-1].json().items() >= {**params, "prompt": [5, 6, 7], "top_p": 1.0}.items()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": SAID},
        {"messages": SAID, "trajectory_uid": "t"},
        {"messages": SAID, "prompt_uid": "p"},
        {"messages": SAID, "prompt_ids": [1], "trajectory_uid": "t", "prompt_uid": "p"},
        {"prompt_ids": [-1]},
        {"prompt_ids": "text"},
        {"messages": SAID, "trajectory_uid": "pool", "prompt_uid": "p"},
        {"prompt_ids": [1], "sampling_params": 3},
    ],
    ids=str,
)
def test_13_what_generate_does_not_take(gateway: GatewayProcess, body: dict[str, Any]) -> None:
    before = len(gateway.stub.requests)
    check_problem(gateway.post("/generate", body), 422)
    assert len(gateway.stub.requests) == before


def test_13_generate_without_ids_from_the_engine(gateway: GatewayProcess) -> None:
    for kind in ("no_ids", "short_logprobs"):
        gateway.stub.spoil(Fault(kind))  # type: ignore[arg-type]
        check_problem(gateway.post("/generate", {"prompt_ids": [5]}), 502)


@pytest.mark.parametrize(
    "body",
    [
        {"trajectory_uid": "t", "messages": SAID, "dataset_fields": {"ground_truth": "2"}},
        {"prompt_ids": [1], "response_ids": [2], "num_turns": 2, "extra_fields": {}, "dataset_fields": {}},
    ],
)
def test_14_no_reward_function_is_configured(gateway: GatewayProcess, body: dict[str, Any]) -> None:
    check_problem(gateway.post("/compute_reward", body), 503)


def test_15_ready(gateway: GatewayProcess) -> None:
    assert gateway.get("/ready").json() == {"status": "ready"}


def test_15_not_ready_says_why(tmp_path: Path) -> None:
    stub = StubThread()
    (tmp_path / "tokenizer.json").write_text("{}")
    gateway = GatewayProcess(stub, tmp_path / "gateway.db", "--tokenizer-path", str(tmp_path), until_ready=False)
    try:
        body = check_problem(gateway.get("/ready"), 503)
        assert body["detail"].startswith("Gateway not ready")
    finally:
        gateway.kill()
        stub.close()


def test_15_the_docs_come_from_the_gateway_alone(gateway: GatewayProcess) -> None:
    page = gateway.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page.text)
    assert len(addresses) >= 4
    for address in addresses:
        assert not re.match(r"[a-z]+:|//", address), address
        found = gateway.get(f"/{address.lstrip('/')}")
        assert found.status_code == 200, address
        assert found.content
    assert gateway.get("/openapi.json").json()["openapi"].startswith("3.1")
    assert gateway.get("/docs/openapi.json").json()["openapi"].startswith("3.0.")
    check_problem(gateway.get("/docs/other.js"), 404)
    assert gateway.get("/docs/..%2f__init__.py").status_code == 404


def test_faults_outside_model_routes_are_problems_whatever_they_are(gateway: GatewayProcess) -> None:
    wrong_method = gateway.get("/pool/lease")
    check_problem(wrong_method, 405)
    assert wrong_method.headers["allow"] == "POST"
    check_problem(gateway.get("/pool/nothing"), 404)
    check_problem(gateway.post("/docs/swagger-ui.css"), 405)
    check_openai(gateway.get("/v1/chat/completions"), 405)
    check_openai(gateway.get("/sessions/create"), 405)
