"""A service from its start to its stop, through the command line, on both platforms."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from datetime import UTC, datetime

import pytest

from tests.contract.stand_ins import TAO_ARCHS, StandIns, until, write_picture

COMMON_FIELDS = {
    "job_id",
    "platform",
    "network_arch",
    "host_url",
    "host_port",
    "started_at",
    "state",
    "image",
    "model_path",
    "num_gpus",
}
REPLY = re.compile(rb"ftypisom.*image2world", re.DOTALL)


@pytest.mark.parametrize("arch", TAO_ARCHS)
def test_each_tao_arch_from_start_to_stop(stand_ins: StandIns, arch: str, tmp_path) -> None:
    moor, job_id = stand_ins.moor, stand_ins.new_id()
    before = datetime.now(UTC)
    entry = stand_ins.start(arch=arch, job_id=job_id)
    check_entry(stand_ins, entry, arch, before)
    check_state_file(stand_ins, entry)

    listed = moor("list", "--json").out["data"]
    assert listed == {"services": [{**entry, "reason": None}], "latest": job_id}
    assert moor("status", "--json").out["data"] == {**entry, "reason": None}
    assert moor("wait", job_id, "--json").out["data"]["state"] == "ready"

    saved, picture = tmp_path / "reply.mp4", write_picture(tmp_path / "a.png")
    asked = ("--prompt", "What is this?", "--image", picture, "--accept-defaults", "--output", saved)
    answer = moor("request", *asked, "--json")
    assert answer.rc == 0, answer
    data = answer.out["data"]
    assert data["job_id"] == job_id
    assert data["response"]["object"] == "chat.completion"
    if arch == "cosmos-predict2.5":
        assert (data["content"], data["output_file"]) == (None, str(saved))
        assert REPLY.search(saved.read_bytes())
    else:
        assert json.loads(data["content"])["media"] == ["image/png"]
        assert (data["output_file"], saved.exists()) == (None, False)

    lines = moor("logs", "--json").out["data"]["lines"]
    assert "stage ready" in lines
    # Only a number: whoever else waits for a service on this port is logged too.
    assert len(moor("logs", job_id, "--tail", "1", "--json").out["data"]["lines"]) == 1

    stopped = moor("stop", "--json")
    assert stopped.out == {"ok": True, "data": {"stopped": [job_id], "latest": None}}
    assert stand_ins.left_of(job_id) == []
    assert stand_ins.read_state() == {}
    assert moor("stop", job_id, "--json").rc == 3


def check_entry(stand_ins: StandIns, entry: dict[str, object], arch: str, before: datetime) -> None:
    docker = stand_ins.platform == "local-docker"
    assert set(entry) >= COMMON_FIELDS
    assert (entry["platform"], entry["network_arch"], entry["state"]) == (stand_ins.platform, arch, "ready")
    assert isinstance(entry["host_port"], int)
    assert entry["host_url"] == f"http://localhost:{entry['host_port']}"
    assert entry.get("docker_url") == (f"http://{entry['job_id']}:8080" if docker else None)
    assert bool(entry["image"]) == docker
    assert entry["model_path"] == ("/scenario/ready" if docker else str(stand_ins.model))
    assert entry["num_gpus"] == 1
    started = datetime.fromisoformat(str(entry["started_at"]))
    assert (started.utcoffset().total_seconds(), before <= started <= datetime.now(UTC)) == (0, True)
    assert not {"starter", "stop_requested_at", "reaper"} & set(entry)


def check_state_file(stand_ins: StandIns, entry: dict[str, object]) -> None:
    assert stand_ins.state_file.stat().st_mode & 0o777 == 0o600
    assert stand_ins.read_state() == {entry["job_id"]: entry, "latest": entry["job_id"]}
    beside = {path.name for path in stand_ins.state_file.parent.iterdir()}
    assert beside == {stand_ins.state_file.name, f"{stand_ins.state_file.name}.lock"}


def test_people_are_told_what_to_type(stand_ins: StandIns, tmp_path) -> None:
    job_id = stand_ins.new_id()
    words = [word for word in stand_ins.words(job_id=job_id, arch="tao-dataservices") if word != "--json"]
    done = stand_ins.moor(*words, env=stand_ins.env())
    entry = stand_ins.read_state()[job_id]
    lines = done.out.splitlines()
    assert lines[0] == "Inference service started."
    assert any(re.fullmatch(rf"\s+Job ID\s*: {job_id}", line) for line in lines)
    assert any(re.fullmatch(r"\s+Arch\s*: tao-dataservices", line) for line in lines)
    assert any(re.fullmatch(rf"\s+URL\s*: {entry['host_url']}/v1/chat/completions", line) for line in lines)
    assert "moor request --job-id" in done.out
    assert f"moor stop {job_id}" in done.out

    asked = stand_ins.moor("request", "--prompt", "x", "--accept-defaults")
    said = f"Sending to job_id={job_id} arch=tao-dataservices url={entry['host_url']}/v1/chat/completions"
    assert asked.err.splitlines()[0] == said
    assert asked.out["text"] == "x"

    stopped = stand_ins.moor("stop")
    assert stopped.err.splitlines()[0] == f"Stopping job_id={job_id}"
    assert stopped.out == f"{job_id} stopped\n"


def test_three_services_at_once_each_on_a_port_of_its_own(stand_ins: StandIns) -> None:
    stand_ins.own_ports = False
    starts = [(arch, stand_ins.popen_start(arch=arch, job_id=stand_ins.new_id())) for arch in TAO_ARCHS]
    entries = {}
    for arch, start in starts:
        out, err = start.communicate(timeout=120)
        assert start.returncode == 0, (out, err)
        entries[arch] = json.loads(out)["data"]
    assert len({entry["host_port"] for entry in entries.values()}) == 3
    for arch, entry in entries.items():
        with urllib.request.urlopen(f"{entry['host_url']}/api/v1/health/liveness", timeout=30) as reply:
            body = json.load(reply)
        assert body["model_type"] == arch
        assert body["job_id"] == (None if arch == "cosmos-predict2.5" else entry["job_id"])
    listed = stand_ins.moor("list", "--json").out["data"]
    assert {entry["state"] for entry in listed["services"]} == {"ready"}

    victim, *others = (entry["job_id"] for entry in entries.values())
    stand_ins.kill(victim)
    assert stand_ins.await_state(victim, "exited")["reason"]
    assert [stand_ins.seen(job_id)["state"] for job_id in others] == ["ready", "ready"]

    assert stand_ins.moor("prune", "--dry-run", "--json").out["data"]["pruned"] == [victim]
    assert stand_ins.moor("prune", "--json").out["data"] == {"pruned": [victim]}
    assert stand_ins.left_of(victim) == []
    assert stand_ins.moor("stop", "--all", "--json").out["data"] == {
        "stopped": [job_id for job_id in listed_ids(listed) if job_id != victim],
        "latest": None,
    }


def listed_ids(listed: dict[str, object]) -> list[str]:
    return [entry["job_id"] for entry in listed["services"]]


def test_latest_is_the_most_recently_started_one_left(local: StandIns) -> None:
    first, second = (local.start("ready", "--no-wait")["job_id"] for _ in range(2))
    assert local.read_state()["latest"] == second
    assert local.moor("stop", second, "--json").out["data"] == {"stopped": [second], "latest": first}
    assert local.read_state()["latest"] == first
    local.moor("stop", first, "--json")
    assert local.read_state() == {}


def test_no_wait_returns_once_the_platform_accepted(stand_ins: StandIns) -> None:
    entry = stand_ins.start("slow/2", "--no-wait")
    job_id = entry["job_id"]
    assert entry["state"] == "starting"
    assert "starter" not in entry
    assert stand_ins.runs(job_id)
    until(lambda: stand_ins.seen(job_id)["reason"] == "model_loading", "loading is told")
    assert stand_ins.seen(job_id)["state"] == "starting"
    waited = stand_ins.moor("wait", "--json", "--timeout", "60s")
    assert (waited.rc, waited.out["data"]["state"]) == (0, "ready")
    assert stand_ins.read_state()[job_id]["state"] == "ready"


def test_not_ready_in_time_keeps_the_service(stand_ins: StandIns) -> None:
    job_id = stand_ins.new_id()
    done = stand_ins.try_start("never-ready", "--wait", "1", job_id=job_id)
    assert (done.rc, done.out["error"]["code"]) == (7, "not_ready")
    assert {f"moor wait {job_id}", f"moor stop {job_id}"} <= set(done.out["error"]["next"])
    assert stand_ins.runs(job_id)
    assert "starter" not in stand_ins.read_state()[job_id]
    assert stand_ins.seen(job_id)["state"] == "starting"
    waited = stand_ins.moor("wait", job_id, "--timeout", "0.5", "--json")
    assert (waited.rc, waited.out["data"]["reason"]) == (7, "model_loading")
    assert stand_ins.moor("stop", job_id, "--json").rc == 0
    assert stand_ins.left_of(job_id) == []


@pytest.mark.parametrize(
    ("scenario", "word"),
    [
        ("init-error", "initialization_failed"),
        ("load-error", "model_load_failed"),
        ("crash-at-start", "exit code 17"),
        ("die-while-loading/0.3", "exit code 17"),
    ],
)
def test_a_start_that_failed_is_undone_and_told_with_its_last_words(
    stand_ins: StandIns, scenario: str, word: str
) -> None:
    job_id = stand_ins.new_id()
    done = stand_ins.try_start(scenario, job_id=job_id)
    assert done.rc == 8, done
    assert word in done.out["error"]["message"]
    tail = done.out["data"]["log_tail"]
    assert 1 <= len(tail) <= 20
    assert any("RuntimeError: " in line or "failed" in line for line in tail)
    assert stand_ins.left_of(job_id) == []
    assert stand_ins.read_state() == {}


def test_a_death_is_told_within_two_seconds(stand_ins: StandIns) -> None:
    """Of three tries the quickest counts: the machine may be busy with other things."""
    took_s = []
    while len(took_s) < 3 and min(took_s, default=9) >= 2:
        job_id = stand_ins.new_id()
        start = stand_ins.popen_start("never-ready", job_id=job_id)
        until(lambda job_id=job_id: alive(stand_ins, job_id), "it runs")
        stand_ins.kill(job_id)
        died = time.monotonic()
        out, _ = start.communicate(timeout=60)
        took_s.append(time.monotonic() - died)
        assert start.returncode == 8, out
        assert stand_ins.left_of(job_id) == []
    assert min(took_s) < 2, took_s


def alive(stand_ins: StandIns, job_id: str) -> bool:
    entry = stand_ins.seen(job_id)
    return entry is not None and entry["reason"] == "model_loading"


def test_what_only_looks_ready_never_is(local: StandIns) -> None:
    """Another service's server, a web page, and a model that was never asked for."""
    reasons = {
        "other-job": "another service answers",
        "html": "another program has this port",
        "not-loaded": "model_not",
    }
    starts = {scenario: local.popen_start(scenario, "--wait", "2") for scenario in reasons}
    for scenario, start in starts.items():
        out, err = start.communicate(timeout=60)
        assert start.returncode == 7, (scenario, out, err)
        assert reasons[scenario] in json.loads(out)["error"]["message"]


def test_the_oldest_server_is_ready_through_its_health_route(stand_ins: StandIns) -> None:
    assert stand_ins.start("oldest")["state"] == "ready"


def test_a_service_that_died_after_it_was_ready(local: StandIns) -> None:
    job_id = local.start("die-after-ready/0.1", "--no-wait")["job_id"]
    assert "17" in local.await_state(job_id, "exited")["reason"]
    assert local.moor("wait", job_id, "--json").rc == 8
    lines = local.moor("logs", job_id, "--json").out["data"]["lines"]
    assert any(line.startswith("RuntimeError") for line in lines[-3:])  # a last look of ours may be logged after it
    gone = local.moor("request", "--job-id", job_id, "--prompt", "x", "--accept-defaults", "--json")
    assert (gone.rc, gone.out["error"]["code"]) == (8, "service_dead")
    assert local.moor("stop", "--json").out["data"]["stopped"] == [job_id]


def test_a_child_in_a_session_of_its_own_goes_with_its_service(local: StandIns) -> None:
    """Engines start workers with setsid; a stop must find them all the same."""
    job_id = local.new_id()
    wrapper = local.state_file.parents[1] / "programs" / "cosmos-rl-inference-microservice"
    real = wrapper.with_name("real-server")
    wrapper.rename(real)
    wrapper.write_text(f'#!/bin/sh\nsetsid sleep 1000 &\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    local.start(job_id=job_id)
    assert [line for line in local.left_of(job_id) if "sleep 1000" in line]
    local.moor("stop", job_id, "--json")
    assert local.left_of(job_id) == []
