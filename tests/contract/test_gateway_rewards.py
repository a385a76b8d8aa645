"""Rewards over HTTP: computed in both shapes, set, set again, and every way in which a function can go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract import gateway_process
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
from tests.contract.gateway_process import ROOT, GatewayProcess, running_gateway, wait_until
from tests.stand_ins import enemy_rewards

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
    uid = fresh()
    assert submit(gateway, step(uid, 0, reward=0.5), step(uid, 1, reward=0.75, is_last=True)).status_code == 200
    assert versions(gateway, uid) == [(0.75, "completed", None)]
    body = {"trajectory_uid": uid, "step_index": 0, "reward": 2}
    assert gateway.post("/pool/rewards", body).json()["version"] == 2
    told = gateway.get(f"/pool/rewards?trajectory_uid={uid}").json()
    assert [[(one["reward"], one["by"]) for one in row["versions"]] for row in told["steps"]] == [
        [(0.5, "submitted"), (2.0, "given")]
    ]
    assert steps_of(gateway, uid)[0]["marks"]["reward"] == 2.0
    # The last step of a complete trajectory has the trajectory's reward.
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


# What a function may do


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose functions are those of another package, most of them enemies."""
    folder = tmp_path_factory.mktemp("hostile")
    package = folder / "enemies-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: enemies\nVersion: 1\n")
    lines = [f"{name} = tests.stand_ins.enemy_rewards:{name}" for name in enemy_rewards.__all__]
    (package / "entry_points.txt").write_text("\n".join(["[moorage.rewards]", *lines]) + "\n")
    config = folder / "rewards.json"
    entry = {"timeout_s": 3, "processes": 1, "memory_mb": 1024}
    config.write_text(json.dumps({"rewards": {name: entry for name in ("good", *enemy_rewards.__all__)}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway_process, "ROOT", f"{folder}{os.pathsep}{ROOT}")
        with running_gateway(folder, "--reward-config", str(config)) as running:
            yield running


@pytest.mark.parametrize(
    ("enemy", "status", "code", "words"),
    [
        ("raises", 500, "reward_failed", "ValueError: wrong"),
        ("raises_the_unsayable", 500, "reward_failed", "Unsayable"),
        ("exits", 500, "reward_failed", "SystemExit: 0"),
        ("recurses", 500, "reward_failed", "RecursionError"),
        ("eats_memory", 500, "reward_failed", "MemoryError"),
        ("dies", 500, "reward_crashed", "status 3"),
        ("segfaults", 500, "reward_crashed", "signal 11"),
        ("closes_everything", 500, "reward_crashed", "ended"),
        ("leaves_a_child", 500, "reward_crashed", "status 0"),
        ("not_a_number", 500, "reward_not_finite", "nan"),
        ("infinite", 500, "reward_not_finite", "inf"),
        ("text", 500, "reward_no_number", "str"),
        ("nothing", 500, "reward_no_number", "NoneType"),
        ("bad_info", 500, "reward_bad_info", "object"),
        ("endless_info", 500, "reward_bad_info", "bytes"),
    ],
)
def test_what_goes_wrong_is_that_requests_error(
    hostile: GatewayProcess, enemy: str, status: int, code: str, words: str
) -> None:
    for _ in range(2):  # again with a process that took its place
        reply = hostile.post("/compute_reward", {**ask("x"), "function": enemy})
        told = check_problem(reply, status, code)
        check_declared("compute_reward", reply)
        assert words in told["detail"]
        assert len(told["detail"]) < 800
    assert hostile.post("/compute_reward", ask("four", function="good")).json()["reward"] == 4.0


@pytest.mark.parametrize("enemy", ["loops", "hangs"])
def test_what_never_ends_is_ended(hostile: GatewayProcess, enemy: str) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(hostile.post, "/compute_reward", {**ask("x"), "function": enemy})
        reply = hostile.post("/compute_reward", ask("four", function="good"))  # nobody else waits for it
        assert reply.json()["reward"] == 4.0
        assert not late.done()
        told = check_problem(late.result(), 504, "reward_timeout")
        check_declared("compute_reward", late.result())
    assert "longer than 3 s" in told["detail"]
    assert time.monotonic() - began < 30


def test_what_is_printed_harms_nobody(hostile: GatewayProcess) -> None:
    assert hostile.post("/compute_reward", ask("x", function="prints_much")).json()["reward"] == 1.0
    assert hostile.post("/compute_reward", ask("x", function="reads_orders")).json()["reward"] == 0.0
    assert "yyyy" not in "".join(hostile.said)


def test_a_process_that_was_killed_is_replaced(hostile: GatewayProcess) -> None:
    pid = hostile.post("/compute_reward", ask("x", function="good")).json()["reward_extra_info"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    reply = hostile.post("/compute_reward", ask("x", function="good"))
    assert reply.json()["reward_extra_info"]["pid"] != pid


def test_many_at_once_and_clients_that_leave(hostile: GatewayProcess) -> None:
    with ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(hostile.post, "/compute_reward", ask("x" * n, function="good")) for n in range(100)]
        assert [one.result().json()["reward"] for one in asked] == [float(n) for n in range(100)]
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", hostile.port)) as leaver:
            body = json.dumps(ask("x", function="hangs")).encode()
            leaver.sendall(b"POST /compute_reward HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert hostile.post("/compute_reward", ask("four", function="good")).json()["reward"] == 4.0


# Starting and stopping


def started(*words: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the error of a gateway that should not start."""
    command = [sys.executable, "-m", "moorage.cli.main", "gateway", "--port", "0", "--upstream", "http://127.0.0.1:9"]
    done = subprocess.run(
        [*command, "--db", "sqlite:////nowhere/at/all.db", "--json", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)["error"]


def test_names_and_options_are_checked_at_the_start(tmp_path: Path) -> None:
    status, error = started("--reward", "exact,nope")
    assert (status, error["code"]) == (2, "reward_unknown")
    assert "exact, json_schema, math, numeric, regex, remote" in error["message"]
    file = tmp_path / "rewards.yaml"
    for text, status, code in (
        ("rewards: {regex: {options: {pattern: '('}}, exact: {}}", 2, "reward_options"),
        ("rewards: {exact: {timeout_s: 0}}", 2, "reward_config"),
        ("rewards: {remote: {options: {url: 'http://me:canary@127.0.0.1/'}}}", 2, "reward_options"),
        ("rewards: {remote: {options: {url: 'http://127.0.0.1:9/', key_env: JUDGE_KEY}}}", 5, "api_key_missing"),
    ):
        file.write_text(text, encoding="utf-8")
        told, error = started("--reward-config", str(file))
        assert (told, error["code"]) == (status, code), text
        assert "canary" not in json.dumps(error)
    assert "JUDGE_KEY" in error["message"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_no_process_is_left(tmp_path: Path, end: str) -> None:
    with running_gateway(tmp_path, "--reward", "exact,numeric") as gateway:
        assert gateway.post("/compute_reward", ask("1", "1", function="numeric")).json()["reward"] == 1.0
        workers = children_of(gateway.process.pid)
        assert len(workers) == 2
        getattr(gateway, end)()
        wait_until(lambda: not any(is_alive(pid) for pid in workers), within_s=20)


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
