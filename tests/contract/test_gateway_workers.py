"""`moor gateway --workers`: one address, one parent, several processes, started, replaced and ended together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.gateway_calls import chat, init, send_and_leave
from tests.contract.gateway_process import ROOT, GatewayProcess, StubThread, running_gateway, wait_until
from tests.contract.gateway_workers import children_of, events, pids, wait_until_gone, ways
from tests.stand_ins.engine_stub import Fault

WORKERS = 3
FLAGS = ("--workers", str(WORKERS), "--mode", "passthrough", "--access-log")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("workers"), *FLAGS) as running:
        yield running


def run_moor(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A gateway that is expected not to start."""
    command = [sys.executable, "-m", "moorage.cli.main", "gateway", "--json", "--upstream", "http://127.0.0.1:9"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, env=environ)


def test_it_says_once_that_all_listen_and_each_serves(gateway: GatewayProcess) -> None:
    assert len(events(gateway, "listening")) == 1
    assert sorted(pids(gateway)) == sorted({one["worker"] for one in events(gateway, "worker_ready")}) == [0, 1, 2]
    assert sorted(children_of(gateway.process.pid)) == sorted(pids(gateway).values())
    with ways(gateway, WORKERS) as each:
        assert [way.get("/ready").status_code for way in each] == [200] * WORKERS


def test_connections_are_spread(gateway: GatewayProcess) -> None:
    """By the kernel, over the addresses of clients: 90 of them leave no worker without."""
    held = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(90)]
    for number, one in enumerate(held):
        one.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nx-request-id: spread-%d\r\n\r\n" % number)
    served: Counter[int] = Counter()

    def all_served() -> bool:
        served.clear()
        served.update(one["worker"] for one in events(gateway, "request") if "spread-" in one["request_id"])
        return sum(served.values()) == len(held)

    wait_until(all_served)
    for one in held:
        one.close()
    assert min(served[worker] for worker in range(WORKERS)) >= 10, served


def test_a_worker_that_dies_is_replaced_and_the_others_serve_on(gateway: GatewayProcess) -> None:
    before = pids(gateway)
    with ways(gateway, WORKERS) as each:
        os.kill(before[1], signal.SIGKILL)
        assert [each[worker].get("/ready").status_code for worker in (0, 2)] == [200, 200]
    wait_until(lambda: pids(gateway)[1] != before[1])
    with ways(gateway, WORKERS) as each:  # the new one listens
        assert each[1].get("/ready").status_code == 200
    now = pids(gateway)
    assert (now[0], now[2]) == (before[0], before[2])
    [died] = [one for one in events(gateway, "worker_died") if one["pid"] == before[1]]
    assert died["how"] == "signal 9"


def test_one_that_is_told_to_end_drains_and_is_replaced(gateway: GatewayProcess) -> None:
    before = pids(gateway)
    with ways(gateway, WORKERS) as each:
        gateway.stub.spoil(Fault("slow", after=0.7))
        path = f"{init(gateway)['path']}/v1/chat/completions"
        replies: list[int] = []
        asking = threading.Thread(target=lambda: replies.append(each[2].post(path, chat()).status_code))
        seen = len(gateway.stub.requests)
        asking.start()
        wait_until(lambda: len(gateway.stub.requests) > seen)
        os.kill(before[2], signal.SIGTERM)
        asking.join(60)
    assert replies == [200]
    wait_until(lambda: pids(gateway)[2] != before[2])


def test_all_workers_killed_come_back(gateway: GatewayProcess) -> None:
    before = set(pids(gateway).values())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(pids(gateway).values()) - before) == WORKERS)
    with ways(gateway, WORKERS) as each:
        assert [way.get("/ready").status_code for way in each] == [200] * WORKERS


def test_the_address_is_taken_for_others(gateway: GatewayProcess, tmp_path: Path) -> None:
    for more in ((), ("--workers", "2")):
        done = run_moor(tmp_path, "--port", str(gateway.port), "--db", f"sqlite:///{tmp_path / 'x.db'}", *more)
        assert done.returncode == 6
        assert json.loads(done.stdout)["error"]["code"] == "port_taken"


def test_what_keeps_one_from_starting_ends_all_once(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.db"
    wrong.write_bytes(b"no database, but long enough to be looked at as one " * 40)
    done = run_moor(tmp_path, "--port", "0", "--db", f"sqlite:///{wrong}", "--workers", "3")
    assert done.returncode == 5, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "store_corrupt" and str(wrong) in error["message"] and error["hint"]
    assert "listening" not in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.glob("moorage-*")) == []


def test_bad_numbers_are_refused(tmp_path: Path) -> None:
    for number in ("0", "-1", "two", "1000"):
        done = run_moor(tmp_path, "--port", "0", f"--workers={number}", "--db", f"sqlite:///{tmp_path / 'x.db'}")
        assert done.returncode == 2, (number, done.stdout)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_and_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    """The signal goes to every process, as from a terminal or a service manager; what is in flight ends well."""
    with running_gateway(tmp_path, *FLAGS) as gateway:
        started = pids(gateway)
        with ways(gateway, WORKERS) as each:
            path = f"{init(gateway)['path']}/v1/chat/completions"
            gateway.stub.spoil(*[Fault("slow", after=0.7)] * WORKERS)
            replies: list[int] = []
            asking = [
                threading.Thread(target=lambda way=way: replies.append(way.post(path, chat()).status_code))
                for way in each
            ]
            for one in asking:
                one.start()
            wait_until(lambda: len(gateway.stub.requests) >= WORKERS)
            os.killpg(gateway.process.pid, how)
            for one in asking:
                one.join(60)
        assert replies == [200] * WORKERS
        assert gateway.process.wait(60) == 0
        assert len(events(gateway, "stopped")) == WORKERS
        wait_until_gone(*started.values())
        assert gateway.process.stdout is not None
        assert json.loads(gateway.process.stdout.read())["ok"] is True


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running_gateway(tmp_path, *FLAGS) as gateway:
        started = pids(gateway)
        gateway.stub.spoil(Fault("slow", after=60))
        path = f"{init(gateway)['path']}/v1/chat/completions"
        left = send_and_leave(gateway, path, chat())
        wait_until(lambda: len(gateway.stub.requests) >= 1)
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: len(events(gateway, "draining")) == WORKERS)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 130
        left.close()
        wait_until_gone(*started.values())


def test_workers_end_with_their_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with running_gateway(tmp_path, *FLAGS) as gateway:
        [folder] = tmp_path.glob("moorage-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert sorted(one.name for one in folder.iterdir()) == ["0", "1", "2"]
        started = pids(gateway)
        gateway.stub.spoil(Fault("slow", after=0.7))
        path = f"{init(gateway)['path']}/v1/chat/completions"
        replies: list[int] = []
        asking = threading.Thread(target=lambda: replies.append(gateway.post(path, chat()).status_code))
        asking.start()
        wait_until(lambda: len(gateway.stub.requests) >= 1)
        gateway.process.kill()
        asking.join(60)
        assert replies == [200]
        wait_until_gone(*started.values())
        assert not folder.exists()


def test_a_terminal_that_closes_ends_it(tmp_path: Path) -> None:
    with running_gateway(tmp_path, *FLAGS) as gateway:
        started = pids(gateway)
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.process.wait(60) == 0
        wait_until_gone(*started.values())


def test_one_worker_makes_no_parent(tmp_path: Path) -> None:
    stub = StubThread()
    gateway = GatewayProcess(stub, tmp_path / "gateway.db", "--workers", "1")
    try:
        assert children_of(gateway.process.pid) == []
        assert events(gateway, "worker_started") == []
        assert all("worker" not in one for one in events(gateway, "ready"))
    finally:
        gateway.kill()
        stub.close()
