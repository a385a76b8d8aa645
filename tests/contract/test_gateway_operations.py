"""Running a gateway: where it refuses to start, several engines, engines that go and come, ends, what it tells."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Moor
from tests.contract.gateway_calls import chat, check_openai, check_problem, fresh, init, step, steps_of, submit
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway, wait_until
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.engine_stub import Fault

# Starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gate.example"])
def test_addresses_that_others_reach_are_refused(moor: Moor, tmp_path: Path, host: str) -> None:
    words = ("gateway", "--host", host, "--port", "0", "--upstream", "http://127.0.0.1:1", "--json")
    answer = moor(*words, "--db", f"sqlite:///{tmp_path / 'store.db'}")
    assert (answer.rc, answer.out["error"]["code"]) == (5, "keys_required")
    assert not (tmp_path / "store.db").exists()


@pytest.mark.parametrize(
    ("words", "rc"),
    [
        (["--upstream", "ftp://127.0.0.1"], 2),
        (["--upstream", "http://127.0.0.1:1", "--registry"], 2),
        (["--upstream", "http://127.0.0.1:1", "--mode", "fast"], 2),
        (["--upstream", "http://127.0.0.1:1", "--compat", "other"], 2),
        (["--upstream", "http://127.0.0.1:1", "--n-rollouts", "0"], 2),
        (["--upstream", "http://127.0.0.1:1", "--db", "mysql://x"], 2),
        (["--upstream", "http://127.0.0.1:1", "--db", "sqlite:////proc/nowhere/store.db"], 5),
        (["--upstream", "http://127.0.0.1:1", "--tokenizer-path", "/nowhere"], 5),
        (["--servers", "/nowhere/servers.json"], 2),
        ([], 2),
    ],
    ids=str,
)
def test_what_it_does_not_start_with(moor: Moor, words: list[str], rc: int) -> None:
    answer = moor("gateway", "--port", "0", *words, "--json")
    assert answer.rc == rc, answer
    assert answer.out["ok"] is False
    assert answer.out["error"]["message"]


def test_a_port_in_use_is_told(moor: Moor, tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        words = ("gateway", "--port", str(gateway.port), "--upstream", gateway.stub.url, "--json")
        answer = moor(*words, "--db", f"sqlite:///{tmp_path / 'other.db'}")
    assert (answer.rc, answer.out["error"]["code"]) == (6, "port_taken")


def test_no_engine_and_no_training_library_is_imported() -> None:
    """Loading the server, in a process of its own, which has nothing else."""
    script = (
        "import sys, moorage.gateway.server\n"
        "print([name for name in ('torch', 'vllm', 'transformers', 'ray', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


# Several engines -------------------------------------------------------------------------------------------------


@pytest.fixture
def stubs() -> Iterator[list[StubThread]]:
    made = [StubThread(CannedReplies("stub", prompt_ids=12, sampled=6)) for _ in range(3)]
    yield made
    for stub in made:
        stub.close()


def on(stubs: list[StubThread], folder: Path, *flags: str) -> GatewayProcess:
    urls = ",".join(stub.url for stub in stubs)
    return GatewayProcess(stubs[0], folder / "gateway.db", *flags, whom=("--upstream", urls))


def test_new_sessions_are_spread_evenly_and_stay(stubs: list[StubThread], tmp_path: Path) -> None:
    gateway = on(stubs, tmp_path)
    try:
        made = [gateway.post("/sessions/create", {}).json() for _ in range(12)]
        assert sorted([one["base_url"] for one in made].count(stub.url) for stub in stubs) == [4, 4, 4]
        for session in made:
            for turn in range(2):
                assert gateway.post(f"/{session['uuid']}/v1/chat/completions", chat(seed=turn)).status_code == 200
        assert [len(stub.requests) for stub in stubs] == [8, 8, 8]
    finally:
        gateway.kill()


def test_a_session_is_pinned_by_any_spelling(stubs: list[StubThread], tmp_path: Path) -> None:
    gateway = on(stubs, tmp_path)
    try:
        wanted = stubs[2].url.removesuffix("/v1")
        for spelling in (wanted, f"{wanted}/", f"{wanted}/v1", f"{wanted}/v1/"):
            session = gateway.post("/sessions/create", {"base_url": spelling}).json()["uuid"]
            assert gateway.post(f"/{session}/v1/chat/completions", chat()).status_code == 200
        assert [len(stub.requests) for stub in stubs] == [0, 0, 4]
        reply = gateway.post("/sessions/create", {"base_url": "http://127.0.0.1:1"})
        assert stubs[0].url in check_openai(reply, 404)["message"]
    finally:
        gateway.kill()


def test_sessions_go_on_when_their_engine_is_gone(stubs: list[StubThread], tmp_path: Path) -> None:
    gateway = on(stubs, tmp_path)
    try:
        made = [gateway.post("/sessions/create", {}).json()["uuid"] for _ in range(6)]
        pinned = gateway.post("/sessions/create", {"base_url": stubs[1].url}).json()["uuid"]
        stubs[1].vanish()
        for session in made:
            assert gateway.post(f"/{session}/v1/chat/completions", chat()).status_code == 200
        wait_until(lambda: gateway.get("/health").json()["status"] == "degraded")
        refused = gateway.post(f"/{pinned}/v1/chat/completions", chat())
        check_openai(refused, 503)
        assert refused.headers["retry-after"].isdigit()
        stubs[1].come_back()
        wait_until(lambda: gateway.get("/health").json()["status"] == "ok", within_s=10)
        assert gateway.post(f"/{pinned}/v1/chat/completions", chat()).status_code == 200
    finally:
        gateway.kill()


def test_without_any_healthy_engine_the_answer_is_quick(stubs: list[StubThread], tmp_path: Path) -> None:
    gateway = on(stubs[:1], tmp_path)
    try:
        session = gateway.post("/sessions/create", {}).json()["uuid"]
        stubs[0].vanish()
        began = time.monotonic()
        reply = gateway.post(f"/{session}/v1/chat/completions", chat())
        check_openai(reply, 503)
        assert reply.headers["retry-after"].isdigit()
        assert time.monotonic() - began < 5
        told = gateway.get("/health")
        assert (told.status_code, told.json()["status"], told.json()["healthy_servers"]) == (503, "unavailable", 0)
    finally:
        gateway.kill()


@pytest.fixture
def mixed(stubs: list[StubThread], tmp_path: Path) -> Iterator[GatewayProcess]:
    """On a servers file with a vLLM and a hosted API that gives no token ids, neither with a key."""
    servers = [
        {"base_url": stubs[0].url, "server_type": "vllm"},
        {"base_url": stubs[1].url, "server_type": "openai", "api_key": ""},
    ]
    file = tmp_path / "servers.json"
    file.write_text(json.dumps({"model_name": "stub", "servers": servers}))
    gateway = GatewayProcess(stubs[0], tmp_path / "gateway.db", whom=("--servers", str(file)))
    yield gateway
    gateway.kill()


def test_a_servers_file_with_mixed_types_and_no_keys(stubs: list[StubThread], mixed: GatewayProcess) -> None:
    rows = mixed.get("/servers").json()["servers"]
    assert [(row["index"], row["base_url"], row["server_type"]) for row in rows] == [
        (0, stubs[0].url, "vllm"),
        (1, stubs[1].url, "openai"),
    ]
    for _ in range(4):
        assert mixed.post("/v1/chat/completions", chat()).status_code == 200


def test_an_engine_without_token_ids_gets_no_session(stubs: list[StubThread], mixed: GatewayProcess) -> None:
    refused = mixed.post("/sessions/create", {"base_url": stubs[1].url})
    check_openai(refused, 400, "engine_gives_no_token_ids")
    made = [mixed.post("/sessions/create", {}) for _ in range(4)]
    assert [(reply.status_code, reply.json()["base_url"]) for reply in made] == [(200, stubs[0].url)] * 4


def test_setup_changes_nothing_when_something_is_wrong(stubs: list[StubThread], mixed: GatewayProcess) -> None:
    wrong: tuple[Any, ...] = ({"servers": [{}]}, {"servers": [{"base_url": "x"}]}, {"servers": 1}, {}, b"{")
    for body in wrong:
        check_openai(mixed.post("/setup", body), 400)
    assert mixed.post("/setup", {"servers": []}).status_code in (200, 400)
    assert len(mixed.get("/servers").json()["servers"]) == 2
    reply = mixed.post("/setup", {"model_name": "stub", "servers": [{"base_url": stubs[2].url}]}).json()
    assert (reply["servers"], reply["model_name"]) == (1, "stub")
    assert [row["base_url"] for row in mixed.get("/servers").json()["servers"]] == [stubs[2].url]
    wait_until(lambda: mixed.get("/health").status_code == 200)
    assert mixed.post("/v1/chat/completions", chat()).status_code == 200


# Ends ------------------------------------------------------------------------------------------------------------


def test_idle_sessions_end(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--session-ttl", "2") as gateway:
        idle, used = (gateway.post("/sessions/create", {}).json()["uuid"] for _ in range(2))

        def only_one_is_left() -> bool:
            assert gateway.get(f"/{used}/nodes").status_code == 200
            return [one["uuid"] for one in gateway.get("/sessions").json()["sessions"]] == [used]

        wait_until(only_one_is_left)
        # By this number new sessions are placed.
        wait_until(lambda: [one["sessions"] for one in gateway.get("/servers").json()["servers"]] == [1])
        check_openai(gateway.post(f"/{idle}/v1/chat/completions", chat()), 404)


def test_ending_lets_calls_in_flight_end(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        made, before = init(gateway), len(gateway.stub.requests)
        gateway.stub.spoil(Fault("slow", after=1.5))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(gateway.post, f"{made['path']}/v1/chat/completions", chat())
            wait_until(lambda: len(gateway.stub.requests) > before)
            with gateway.get("/pool/events", stream=True):
                assert gateway.stop() == 0
            assert asked.result().status_code == 200
    with running_gateway(tmp_path) as again:
        assert len(steps_of(again, made["trajectory_uid"])) == 1


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    headers = {"idempotency-key": "k"}
    with running_gateway(tmp_path) as gateway:
        session = gateway.post("/sessions/create", {}).json()["uuid"]
        said = gateway.post(f"/{session}/v1/chat/completions", chat(), headers=headers).json()
        nodes = gateway.get(f"/{session}/nodes").json()
        uid = fresh()
        assert submit(gateway, step(uid, is_last=True)).status_code == 200
        [lease] = gateway.post("/pool/lease").json()["leases"]
    with running_gateway(tmp_path) as again:
        assert again.get(f"/{session}/nodes").json() == nodes
        repeated = again.post(f"/{session}/v1/chat/completions", chat(), headers=headers)
        assert repeated.json() == said
        assert again.stub.requests == []
        assert again.post("/pool/lease").json()["leases"] == []
        assert again.post("/pool/ack", {"lease_ids": [lease["lease_id"]]}).json() == {"acked": 1}
        assert again.post(f"/{session}/v1/chat/completions", chat(seed=1)).status_code == 200


def test_a_store_that_is_away_is_told_and_nothing_is_believed_to_be_stored(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        made, away = init(gateway), tmp_path / "away.db"
        session = gateway.post("/sessions/create", {}).json()["uuid"]
        gateway.db.rename(away)
        for path in (f"{made['path']}/v1/chat/completions", f"/{session}/v1/chat/completions"):
            reply = gateway.post(path, chat())
            check_openai(reply, 503, "store_unavailable")
            assert reply.headers["retry-after"].isdigit()
            streamed = gateway.post(path, chat(stream=True)).text
            assert "[DONE]" not in streamed
            assert "store_unavailable" in streamed
        check_problem(submit(gateway, step(fresh())), 503, "store_unavailable")
        away.rename(gateway.db)
        wait_until(lambda: gateway.post(f"{made['path']}/v1/chat/completions", chat()).status_code == 200)
        assert [one["step_index"] for one in steps_of(gateway, made["trajectory_uid"])] == [0]
        assert gateway.get(f"/{session}/nodes").json()["nodes"] == []


# What it tells ---------------------------------------------------------------------------------------------------


def test_metrics_and_logs(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--access-log") as gateway:
        made = init(gateway)
        path = f"{made['path']}/v1/chat/completions"
        named = gateway.post(path, chat(), headers={"x-request-id": "mine-1"})
        assert named.headers["x-request-id"] == "mine-1"
        assert gateway.post(path, b"{").headers["x-request-id"]
        told = gateway.get("/metrics").text
        assert 'moorage_tokens_total{kind="completion"} 6.0' in told
        assert 'moorage_calls_total{reason="",verdict="root"} 1.0' in told
        wait_until(lambda: any("mine-1" in line for line in gateway.said))
        events: list[Any] = [json.loads(line) for line in gateway.said]
        [access] = [one for one in events if one.get("request_id") == "mine-1"]
        assert (access["method"], access["path"], access["status"]) == ("POST", path, 200)
        assert gateway.stop() == 0
    wait_until(lambda: any('"stopped"' in line for line in gateway.said))
