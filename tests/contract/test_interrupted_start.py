"""A start that is interrupted, or that meets another service, leaves nothing of its own and touches nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.contract.stand_ins import StandIns, reapers_of, until
from tests.contract.terminal import Terminal

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_while_it_waits(stand_ins: StandIns, number: signal.Signals) -> None:
    job_id = stand_ins.new_id()
    start = stand_ins.popen_start("never-ready", "--ttl", "1h", job_id=job_id)
    until(lambda: (stand_ins.seen(job_id) or {}).get("reason") == "model_loading", "it loads")
    assert reapers_of(job_id)
    start.send_signal(number)
    check_undone(stand_ins, start, job_id)


@pytest.mark.parametrize("number", SIGNALS)
def test_while_it_launches(stand_ins: StandIns, number: signal.Signals) -> None:
    job_id = stand_ins.new_id()
    start = stand_ins.popen_start(job_id=job_id)
    stand_ins.await_entry(job_id)
    start.send_signal(number)
    check_undone(stand_ins, start, job_id)


def test_again_and_again_while_it_is_undone(local: StandIns) -> None:
    job_id = local.new_id()
    start = local.popen_start("never-ready", job_id=job_id)
    local.await_entry(job_id)
    while start.poll() is None:
        start.send_signal(signal.SIGINT)
        start.send_signal(signal.SIGTERM)
        time.sleep(0.01)  # as fast as anybody can press it
    check_undone(local, start, job_id)


def test_while_it_is_recorded_as_ready(local: StandIns) -> None:
    """130 says that nothing runs: also when the signal comes just before the end."""
    job_id = local.new_id()
    start = local.popen_start("slow/0.5", job_id=job_id)
    entry = until(lambda: "pid" in local.await_entry(job_id) and local.await_entry(job_id), "it is launched")
    with Path(f"{local.state_file}.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = Path(entry["log_file"])
        until(lambda: '/readiness HTTP/1.1" 200' in log.read_text(), "the starter has seen that it is ready")
        start.send_signal(signal.SIGINT)
    check_undone(local, start, job_id)


def test_ctrl_c_typed_at_a_terminal(local: StandIns) -> None:
    """It reaches every process of the terminal: the service is none of them, and is ended by the undoing."""
    job_id = local.new_id()
    words = [word for word in local.words("never-ready", job_id=job_id) if word != "--json"]
    with Terminal(words, {**local.environ, "TAO_SCENARIO": "never-ready"}) as terminal:
        terminal.await_text("model_loading")
        terminal.press_ctrl_c()
        assert terminal.finish() == (130, "")
    assert f"error: interrupted: the start of {job_id} was undone" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert local.left_of(job_id) == []


@pytest.mark.docker
@pytest.mark.parametrize("number", SIGNALS)
def test_while_it_pulls(in_docker: StandIns, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_registry:
        image = f"127.0.0.1:{silent_registry.getsockname()[1]}/nobody/nothing:1"
        job_id = in_docker.new_id()
        start = in_docker.popen_start("ready", "--pull", "missing", job_id=job_id, env={"IMAGE_COSMOS_RL": image})
        silent_registry.accept()
        start.send_signal(number)
        check_undone(in_docker, start, job_id)


def check_undone(stand_ins: StandIns, start: subprocess.Popen[str], job_id: str) -> None:
    out, err = start.communicate(timeout=60)
    assert start.returncode == 130, (out, err)
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert "Traceback" not in err
    assert stand_ins.left_of(job_id) == []
    assert stand_ins.read_state() == {}


@pytest.mark.parametrize("delay_ms", range(50, 850, 100))
def test_at_any_moment(local: StandIns, delay_ms: int) -> None:
    """Before Python has come to our code, a signal ends it as it ends any program: nothing has begun by then."""
    job_id = local.new_id()
    start = local.popen_start(job_id=job_id)
    try:
        start.wait(delay_ms / 1000)
    except subprocess.TimeoutExpired:
        start.send_signal(signal.SIGTERM)
    out, err = start.communicate(timeout=60)
    assert start.returncode in (0, 130, -signal.SIGTERM), (out, err)
    if start.returncode == 0:
        assert local.seen(job_id)["state"] == "ready"
    else:
        assert local.left_of(job_id) == []


def test_nohup_is_heeded(local: StandIns) -> None:
    job_id = local.new_id()
    words = local.words("slow/1", job_id=job_id)
    start = local.moor.popen(*words, env=local.env("slow/1"), prefix=["nohup"])
    local.await_entry(job_id)
    os.kill(start.pid, signal.SIGHUP)
    out, err = start.communicate(timeout=60)
    assert (start.returncode, json.loads(out)["data"]["state"]) == (0, "ready"), err


def test_nobody_listens_to_its_talk(local: StandIns) -> None:
    """`moor start 2>&1 | head -1` must not undo the start when head has gone."""
    for words in (local.words(), [word for word in local.words() if word != "--json"]):
        start = local.moor.popen(*words, env=local.env())
        start.stderr.close()
        out = start.stdout.read()
        assert start.wait(60) == 0, out
    assert {entry["state"] for entry in local.moor("list", "--json").out["data"]["services"]} == {"ready"}


def test_a_service_of_that_id_in_another_state_file_is_left_alone(stand_ins: StandIns) -> None:
    job_id = stand_ins.new_id()
    stand_ins.start(job_id=job_id)
    other = stand_ins.state_file.with_name("other.json")
    done = stand_ins.try_start(job_id=job_id, env={"MOORAGE_STATE_FILE": str(other)})
    assert (done.rc, done.out["error"]["code"]) == (6, "name_taken")
    assert json.loads(other.read_bytes()) == {}
    assert stand_ins.seen(job_id)["state"] == "ready"
    assert stand_ins.moor("logs", job_id, "--json").out["data"]["lines"]


def test_an_id_that_is_taken_is_refused_before_anything_happens(local: StandIns) -> None:
    entry = local.start("ready", "--no-wait")
    done = local.try_start(job_id=entry["job_id"])
    assert (done.rc, done.out["error"]["code"]) == (6, "job_id_taken")
    assert done.out["error"]["next"] == [f"moor status {entry['job_id']}"]


def test_a_state_file_that_is_damaged_meanwhile_does_not_keep_the_service_running(local: StandIns) -> None:
    job_id = local.new_id()
    start = local.popen_start("never-ready", job_id=job_id)
    until(lambda: "pid" in local.await_entry(job_id), "it is launched")
    local.state_file.write_text("{")
    start.send_signal(signal.SIGINT)
    _, err = start.communicate(timeout=60)
    assert start.returncode == 130
    assert "could not undo" in err
    assert not local.runs(job_id)
    assert local.state_file.read_text() == "{"


def test_a_full_disk_leaves_nothing_running(local: StandIns) -> None:
    """Every write fails from here on: also the log of the service cannot be written."""
    job_id = local.new_id()
    words = local.words(job_id=job_id)
    done = local.moor(*words, env=local.env(), prefix=["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"])
    assert (done.rc, done.out["error"]["code"]) == (6, "registry_unwritable"), done
    assert local.left_of(job_id) == []
    assert local.read_state() == {}
