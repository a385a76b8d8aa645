"""Rewards over HTTP: computed in both shapes, set, set again, and every way in which a function can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.gateway_calls import (
    SAID,
    SeveralChoices,
    chat,
    check_problem,
    fresh,
    init,
    row_of,
    step,
    steps_of,
    submit,
)
from tests.contract.gateway_document import check_declared
from tests.contract.gateway_process import ROOT, GatewayProcess, running_gateway

NANO = ROOT / "models" / "nano"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours, and enemies under names of their own."""
    rewards: dict[str, Any] = {
        "exact": {"options": {"ignore_case": True}},
        "numeric": None,
        "pattern": {"function": "regex", "timeout_s": 1, "processes": 1, "options": {"pattern": "(a+)+$"}},
        "json_schema": {"processes": 1},
        "math": {"processes": 1},
        "gone": {"function": "remote", "options": {"url": "http://127.0.0.1:9/", "attempts": 1}},
    }
    path = tmp_path_factory.mktemp("config") / "rewards.yaml"
    path.write_text(yaml.safe_dump({"rewards": rewards}, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    flags = ("--reward-config", str(config), "--tokenizer-path", str(NANO), "--mode", "passthrough")
    with running_gateway(folder, *flags, replies=SeveralChoices()) as running:
        yield running


def ask(said: str, right: Any = None, **fields: Any) -> dict[str, Any]:
    """A request with a reply to judge."""
    messages = [*SAID, {"role": "assistant", "content": said}]
    return {"messages": messages, "dataset_fields": {} if right is None else {"ground_truth": right}, **fields}


# Computing


def test_messages_are_judged_by_the_first_function(gateway: GatewayProcess) -> None:
    reply = gateway.post("/compute_reward", ask("Two", "two"))
    check_declared("compute_reward", reply)
    assert reply.json() == {
        "reward": 1.0,
        "reward_score": 1.0,
        "reward_extra_info": {"answer": "Two"},
        "function": "exact",
        "function_version": "1",
    }
    assert gateway.post("/compute_reward", ask("Three", "two")).json()["reward"] == 0.0


@pytest.mark.parametrize(
    ("function", "said", "fields"),
    [
        ("numeric", "<think>7</think>It is $1,250.50.", {"ground_truth": "1250.5"}),
        ("math", r"So $x = \boxed{\frac{2}{4}}$.", {"reward_model": {"ground_truth": "1/2"}}),
        ("pattern", "caaa", {}),
        ("json_schema", 'Here:\n```json\n{"a": 1}\n```', {"schema": {"type": "object", "required": ["a"]}}),
    ],
)
def test_a_function_is_chosen_by_name(gateway: GatewayProcess, function: str, said: str, fields: Any) -> None:
    reply = gateway.post("/compute_reward", {**ask(said), "function": function, "dataset_fields": fields}).json()
    assert (reply["reward"], reply["reward_score"], reply["function"]) == (1.0, 1.0, function)


def test_ids_are_judged_by_their_text(gateway: GatewayProcess) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    ids = tokenizer.encode("two", add_special_tokens=False).ids
    body = {"prompt_ids": [1, 2], "response_ids": ids, "dataset_fields": {"ground_truth": "two"}}
    assert gateway.post("/compute_reward", body).json()["reward"] == 1.0
    body = {"prompt_ids": [1], "response_ids": [], "response_text": "two", "dataset_fields": {"ground_truth": "two"}}
    assert gateway.post("/compute_reward", body).json()["reward"] == 1.0


def test_the_trajectorys_metadata_has_the_answer(gateway: GatewayProcess) -> None:
    made = init(gateway, metadata={"reward_model": {"ground_truth": "two"}})
    assert gateway.post("/compute_reward", ask("two", trajectory_uid=made["trajectory_uid"])).json()["reward"] == 1.0
    row = row_of(gateway, made["trajectory_uid"])
    assert (row["state"], row["reward"]) == ("open", None)  # computing alone changes nothing


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "body_not_json"),
        ({}, 422, "body_wrong"),
        ({"messages": SAID, "prompt_ids": [1]}, 422, "body_wrong"),
        ({"prompt_ids": [1]}, 422, "body_wrong"),
        ({"prompt_ids": [-1], "response_ids": []}, 422, "body_wrong"),
        ({"messages": []}, 422, "body_wrong"),
        ({"messages": [{"content": "a"}]}, 422, "body_wrong"),
        ({"messages": SAID}, 422, "body_wrong"),
        (ask("two"), 422, "reward_input"),  # no right answer
        (ask("two", "two", function="nope"), 400, "reward_unknown"),
        (ask("two", "two", store=True), 422, "body_wrong"),
        (ask("two", "two", step_index=0), 422, "body_wrong"),
        (ask("two", "two", store=True, trajectory_uid="nobody"), 404, "unknown_trajectory"),
        ({**ask("1", "one"), "function": "numeric"}, 422, "reward_input"),  # the right answer is no number
        (ask("1", "one", function="gone"), 502, "reward_model_gone"),
    ],
)
def test_what_is_wrong_is_told(gateway: GatewayProcess, body: Any, status: int, code: str) -> None:
    reply = gateway.post("/compute_reward", body)
    told = check_problem(reply, status, code)
    check_declared("compute_reward", reply)
    if code == "reward_unknown":
        assert "exact, numeric, pattern" in told["detail"]


def test_without_a_function_it_is_not_available(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as bare:
        check_problem(bare.post("/compute_reward", ask("two", "two")), 503, "reward_not_configured")
        made = init(bare)
        assert bare.post(f"{made['path']}/complete_trajectory", {"reward": 1}).status_code == 200
        reply = bare.get(f"/pool/rewards?trajectory_uid={made['trajectory_uid']}")
        assert reply.json()["reward"] == 1.0


# Setting


def completed(gateway: GatewayProcess, reward: float | None = None, **fields: Any) -> str:
    """A complete trajectory with two model calls."""
    made = init(gateway, **fields)
    for _ in range(2):
        assert gateway.post(f"{made['path']}/chat/completions", chat()).status_code == 200
    body = {} if reward is None else {"reward": reward}
    assert gateway.post(f"{made['path']}/complete_trajectory", body).status_code == 200
    return made["trajectory_uid"]


def versions(gateway: GatewayProcess, uid: str) -> list[tuple[Any, ...]]:
    reply = gateway.get(f"/pool/rewards?trajectory_uid={uid}")
    check_declared("rewards", reply)
    found = reply.json()["versions"]
    assert [one["version"] for one in found] == list(range(1, len(found) + 1))
    return [(one["reward"], one["by"], one["function"]) for one in found]


def test_a_reward_set_again_is_another_version(gateway: GatewayProcess) -> None:
    uid = completed(gateway, 0.25)
    assert versions(gateway, uid) == [(0.25, "completed", None)]
    for _ in range(2):  # the same again is a repeated request
        assert gateway.post(f"/complete_trajectory/{uid}", {"reward": 0.5}).status_code == 200
    reply = gateway.post("/compute_reward", ask("two", "two", trajectory_uid=uid, store=True))
    assert reply.json()["version"] == 3
    reply = gateway.post("/pool/rewards", {"trajectory_uid": uid, "reward": -1, "info": {"who": "me"}})
    check_declared("set_reward", reply)
    assert reply.json() == {"trajectory_uid": uid, "step_index": None, "reward": -1.0, "version": 4}
    told = [
        (0.25, "completed", None),
        (0.5, "completed", None),
        (1.0, "computed", "exact"),
        (-1.0, "given", None),
    ]
    assert versions(gateway, uid) == told
    assert row_of(gateway, uid)["reward"] == -1.0
    assert [one["reward"] for one in steps_of(gateway, uid)] == [None, -1.0]
    newest = gateway.get(f"/pool/rewards?trajectory_uid={uid}").json()["versions"][2]
    assert (newest["function_version"], newest["info"]) == ("1", {"answer": "two"})


def test_a_submitted_reward_is_the_first_version(gateway: GatewayProcess) -> None:
    uid, channel = fresh(), fresh()
    steps = [step(uid, 0, reward=0.5), step(uid, 1, reward=0.75, is_last=True)]
    assert submit(gateway, *steps, channel=channel).status_code == 200
    assert versions(gateway, uid) == [(0.75, "completed", None)]
    body = {"trajectory_uid": uid, "step_index": 0, "reward": 2}
    assert gateway.post("/pool/rewards", body).json()["version"] == 2
    told = gateway.get(f"/pool/rewards?trajectory_uid={uid}").json()
    assert [[(one["reward"], one["by"]) for one in row["versions"]] for row in told["steps"]] == [
        [(0.5, "submitted"), (2.0, "given")]
    ]
    assert steps_of(gateway, uid)[0]["marks"]["reward"] == 2.0
    leased = gateway.post("/pool/lease", {"channel": channel}).json()["leases"]
    assert [one["reward"] for one in leased[0]["trajectories"][0]["steps"]] == [2.0, 0.75]
    check_problem(gateway.post("/pool/rewards", {**body, "reward": 3}), 409, "reward_frozen")
    assert len(gateway.get(f"/pool/rewards?trajectory_uid={uid}").json()["steps"][0]["versions"]) == 2


def test_the_last_step_of_a_complete_trajectory_has_the_trajectorys_reward(gateway: GatewayProcess) -> None:
    uid = fresh()
    assert submit(gateway, step(uid, 0, reward=0.5), step(uid, 1, reward=0.75, is_last=True)).status_code == 200
    body = {"trajectory_uid": uid, "reward": 2}
    assert gateway.post("/pool/rewards", {**body, "step_index": 1}).json()["version"] == 2
    assert versions(gateway, uid) == [(0.75, "completed", None), (2.0, "given", None)]


def test_a_step_of_an_open_trajectory(gateway: GatewayProcess) -> None:
    made = init(gateway)
    uid = made["trajectory_uid"]
    assert gateway.post(f"{made['path']}/chat/completions", chat()).status_code == 200
    reply = gateway.post("/compute_reward", ask("two", "two", trajectory_uid=uid, store=True, step_index=0))
    assert reply.json()["version"] == 1
    check_problem(gateway.post("/pool/rewards", {"trajectory_uid": uid, "reward": 1}), 409, "trajectory_open")
    reply = gateway.post("/compute_reward", ask("two", "two", trajectory_uid=uid, store=True))
    check_problem(reply, 409, "trajectory_open")
    check_declared("compute_reward", reply)
    body = {"trajectory_uid": uid, "reward": 1, "step_index": 7}
    check_problem(gateway.post("/pool/rewards", body), 404, "unknown_step")
    assert versions(gateway, uid) == []


def test_after_the_lease_a_reward_is_fixed(gateway: GatewayProcess) -> None:
    channel = fresh()
    uid = completed(gateway, 1, channel=channel)
    assert gateway.post(f"/complete_trajectory/{uid}", {"reward": 2}).status_code == 200
    [lease] = gateway.post("/pool/lease", {"channel": channel}).json()["leases"]
    assert lease["trajectories"][0]["reward"] == 2.0
    before = versions(gateway, uid)
    check_problem(gateway.post(f"/complete_trajectory/{uid}", {"reward": 3}), 409, "reward_frozen")
    check_problem(gateway.post("/pool/rewards", {"trajectory_uid": uid, "reward": 3}), 409, "reward_frozen")
    check_problem(
        gateway.post("/compute_reward", ask("two", "two", trajectory_uid=uid, store=True)), 409, "reward_frozen"
    )
    assert gateway.post(f"/complete_trajectory/{uid}", {"reward": 2}).status_code == 200
    assert versions(gateway, uid) == before


def test_of_many_at_once_none_is_lost(gateway: GatewayProcess) -> None:
    uid = completed(gateway, 0)
    with ThreadPoolExecutor(8) as threads:
        bodies = [{"trajectory_uid": uid, "reward": reward} for reward in range(1, 9)]
        replies = list(threads.map(lambda body: gateway.post("/pool/rewards", body), bodies))
    assert [reply.status_code for reply in replies] == [200] * 8
    told = versions(gateway, uid)
    assert told[0] == (0.0, "completed", None)
    assert sorted(reward for reward, _, _ in told) == [float(reward) for reward in range(9)]
    assert row_of(gateway, uid)["reward"] in range(1, 9)


def test_versions_have_an_end(gateway: GatewayProcess) -> None:
    uid = completed(gateway, 0)
    statuses = {}
    for reward in range(1, 40):
        reply = gateway.post("/pool/rewards", {"trajectory_uid": uid, "reward": reward})
        if reply.status_code != 200:
            check_problem(reply, 409, "reward_versions_full")
            break
        statuses[reward] = reply.json()["version"]
    assert list(statuses.values()) == [reward + 1 for reward in statuses]
    assert row_of(gateway, uid)["reward"] == max(statuses)  # what was refused has not half happened
    assert len(versions(gateway, uid)) == len(statuses) + 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"trajectory_uid": "nobody", "reward": 1}, 404),
        ({"trajectory_uid": "nobody"}, 422),
        ({"trajectory_uid": "nobody", "reward": "1"}, 422),
        (b'{"trajectory_uid": "nobody", "reward": NaN}', 422),
        ({"trajectory_uid": "nobody", "reward": 1, "step_index": -1}, 422),
        (b"{", 400),
    ],
)
def test_what_cannot_be_set(gateway: GatewayProcess, body: Any, status: int) -> None:
    check_problem(gateway.post("/pool/rewards", body), status)
    check_problem(gateway.get("/pool/rewards"), 422)
    check_problem(gateway.get("/pool/rewards?trajectory_uid=nobody"), 404)
