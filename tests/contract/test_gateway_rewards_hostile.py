"""Reward functions that hang, die, print, leak and lie: each failure is its own request's."""

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

from tests.contract import gateway_process
from tests.contract.gateway_calls import (
    SAID,
    check_problem,
)
from tests.contract.gateway_document import check_declared
from tests.contract.gateway_process import ROOT, GatewayProcess, running_gateway, wait_until
from tests.stand_ins import enemy_rewards


def ask(said: str, right: Any = None, **fields: Any) -> dict[str, Any]:
    """A request with a reply to judge."""
    messages = [*SAID, {"role": "assistant", "content": said}]
    return {"messages": messages, "dataset_fields": {} if right is None else {"ground_truth": right}, **fields}


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
