"""The state file lost, damaged, not ours, or behind what runs: nothing is overwritten, and recover mends it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.contract.platform_contract import free_port
from tests.contract.stand_ins import TAO_ARCHS, TEXT_ARCH, StandIns, reapers_of, until
from tests.real.parts.container_image import HF_SERVER, TaoImage

VERBS_THAT_READ = [
    ["list"],
    ["status"],
    ["wait"],
    ["logs"],
    ["request", "--prompt", "x", "--accept-defaults"],
    ["request", "--prompt", "x", "--accept-defaults", "--dry-run"],
    ["stop"],
    ["stop", "--all"],
    ["stop", "--dry-run"],
    ["prune"],
    ["start", "--network-arch", "cosmos-rl", "--model-path", "/"],
    ["start", "--network-arch", "cosmos-rl", "--model-path", "hf_model://a/b"],
    ["start", "--network-arch", "cosmos-rl", "--model-path", "hf_model://a/b", "--dry-run"],
]
CORRUPT = [b"", b'{"a": {"job_id": "a"}, "b": "text"}', b"\xff\xfe\x00"]


def test_a_lost_file_is_built_again_from_what_runs(stand_ins: StandIns) -> None:
    before = {}
    for arch in TAO_ARCHS:
        limits = ["--ttl", "1h"] if arch == TAO_ARCHS[0] else []
        entry = stand_ins.start("ready", *limits, arch=arch)
        before[entry["job_id"]] = entry
    first = next(iter(before))
    (old_reaper,) = reapers_of(first)
    stand_ins.state_file.unlink()
    assert stand_ins.moor("list", "--json").out["data"] == {"services": [], "latest": None}

    found = stand_ins.recover()

    assert set(found) == set(before)
    for job_id, entry in found.items():
        lost = {"ready_at", "ready_after_s", "reaper"}
        assert {**before[job_id], "reason": None, "reaper": None} | dict.fromkeys(lost) == {
            **entry,
            **dict.fromkeys(lost),
        }
    until(lambda: reapers_of(first) and reapers_of(first) != [old_reaper], "another reaper watches it")
    until(lambda: reapers_of(first) == [stand_ins.read_state()[first]["reaper"]["pid"]], "the old reaper has ended")
    listed = stand_ins.moor("list", "--json").out["data"]
    assert {entry["job_id"]: entry["state"] for entry in listed["services"]} == dict.fromkeys(before, "ready")
    for entry in found.values():
        with urllib.request.urlopen(f"{entry['host_url']}/api/v1/health/liveness", timeout=30) as reply:
            assert json.load(reply)["model_type"] == entry["network_arch"]
    assert len(stand_ins.moor("stop", "--all", "--json").out["data"]["stopped"]) == 3
    assert [stand_ins.left_of(job_id) for job_id in before] == [[], [], []]


def test_recover_changes_nothing_that_is_right(local: StandIns) -> None:
    entry = local.start("ready", "--ttl", "1h")
    before = local.read_state()
    local.recover()
    assert local.read_state() == before
    assert reapers_of(entry["job_id"]) == [entry["reaper"]["pid"]]


@pytest.mark.docker
def test_recover_finds_a_dead_container_too(in_docker: StandIns) -> None:
    job_id = in_docker.start()["job_id"]
    in_docker.kill(job_id)
    in_docker.state_file.unlink()
    assert until(lambda: in_docker.recover()[job_id]["state"] == "exited", "it is found dead")
    assert in_docker.moor("prune", "--json").out["data"]["pruned"] == [job_id]
    assert in_docker.left_of(job_id) == []


@pytest.mark.parametrize("words", VERBS_THAT_READ, ids=" ".join)
@pytest.mark.parametrize("kind", ["corrupt", "symlink", "foreign"])
def test_a_file_that_is_no_registry_stops_every_verb(
    local: StandIns, tmp_path: Path, kind: str, words: list[str]
) -> None:
    data = b'{"a": {}, "b": 1}'
    target = local.state_file
    if kind == "symlink":
        target = tmp_path / "elsewhere.json"
        local.state_file.symlink_to(target)
    target.write_bytes(data)
    if kind == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(target, 12345, 12345)
    if words[-1] == "/":
        words = [*words[:-1], str(local.model)]

    done = local.here(*words, "--json", env=local.env())

    assert done.rc == 6, done
    assert done.out["error"]["code"] == ("registry_corrupt" if kind == "corrupt" else "registry_unsafe")
    assert target.read_bytes() == data
    if kind == "corrupt":
        assert done.out["error"]["next"] == ["moor recover"]
        kept = [path for path in local.state_file.parent.iterdir() if ".corrupt-" in path.name]
        assert [path.read_bytes() for path in kept] == ([] if "--dry-run" in words else [data])
        assert all(path.name.startswith(local.state_file.name) for path in kept)
    else:
        assert list(local.state_file.parent.iterdir()) == [local.state_file]
        assert local.here("recover", "--platform", "local-process", "--json").rc == 6
        assert target.read_bytes() == data


@pytest.mark.parametrize("data", CORRUPT, ids=range(len(CORRUPT)))
def test_recover_builds_a_good_file_over_a_corrupt_one(local: StandIns, data: bytes) -> None:
    job_id = local.start("never-ready", "--no-wait")["job_id"]
    local.state_file.write_bytes(data)
    found = local.recover()
    assert found[job_id]["state"] == "starting"
    assert local.seen(job_id)["state"] == "starting"
    kept = [path for path in local.state_file.parent.iterdir() if ".corrupt-" in path.name]
    assert [path.read_bytes() for path in kept] == [data]
    assert local.state_file.stat().st_mode & 0o777 == 0o600


def test_a_starter_killed_before_the_launch(local: StandIns) -> None:
    """Opening the log blocks on a pipe that nobody reads: the entry is written and nothing is launched yet."""
    job_id = local.new_id()
    block_launch(local, job_id)
    start = local.popen_start(job_id=job_id)
    port = local.await_entry(job_id)["host_port"]
    assert local.seen(job_id)["reason"] == "being launched"
    start.send_signal(signal.SIGKILL)
    start.wait(30)

    seen = local.seen(job_id)
    assert (seen["state"], seen["reason"]) == ("failed", "its start was cut off before it was launched")
    assert not local.runs(job_id)
    asked = local.moor("request", "--job-id", job_id, "--prompt", "x", "--accept-defaults", "--json")
    assert asked.rc == 8
    assert local.moor("prune", "--json").out["data"]["pruned"] == [job_id]
    assert local.left_of(job_id) == []
    assert local.start("never-ready", "--no-wait", "--host-port", str(port))["host_port"] == port


@pytest.mark.parametrize("mend", ["list", "recover", "stop", "wait"])
def test_a_starter_killed_between_launch_and_record(local: StandIns, mend: str) -> None:
    """The test holds the registry's lock, so the process runs and its pid is not recorded."""
    job_id = local.new_id()
    pipe = block_launch(local, job_id)
    start = local.popen_start(job_id=job_id)
    local.await_entry(job_id)
    with Path(f"{local.state_file}.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        until(lambda: local.runs(job_id), "it is launched")
        start.send_signal(signal.SIGKILL)
        start.wait(30)
    assert "pid" not in local.read_state()[job_id]

    if mend == "recover":
        local.state_file.unlink()
        assert "pid" in local.recover()[job_id]
    if mend == "wait":
        assert local.moor("wait", job_id, "--json").out["data"]["state"] == "ready"
    if mend != "stop":
        local.await_state(job_id, "ready")
    assert local.moor("stop", job_id, "--json").rc == 0
    os.close(reader)
    assert local.left_of(job_id) == []


def block_launch(local: StandIns, job_id: str) -> Path:
    """The service's log as a pipe."""
    pipe = local.state_file.parents[1] / "xdg-state" / "moorage" / "logs" / f"{job_id}.log"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    return pipe


@pytest.mark.docker
@pytest.mark.parametrize("moment", ["written", "created"])
def test_a_starter_of_a_container_killed(in_docker: StandIns, moment: str) -> None:
    """Killed as soon as the entry or the container is there, whatever the engine makes of it: a stop leaves nothing."""
    job_id = in_docker.new_id()
    start = in_docker.popen_start(job_id=job_id)
    in_docker.await_entry(job_id)
    if moment == "created":
        until(lambda: in_docker.runs(job_id), "there is a container")
    start.send_signal(signal.SIGKILL)
    start.wait(30)
    seen = in_docker.seen(job_id)
    assert seen["state"] in ("failed", "starting", "ready", "exited")
    assert (seen["state"] == "failed") == (not in_docker.runs(job_id))
    verb = "prune" if seen["state"] == "failed" else "stop"
    words = [verb] if verb == "prune" else [verb, job_id]
    assert in_docker.moor(*words, "--json").rc == 0
    assert in_docker.left_of(job_id) == []


@pytest.mark.docker
def test_a_service_of_a_tool_that_follows_the_tao_skill(in_docker: StandIns, tao_image: TaoImage) -> None:
    """Its fields only, a container named by the job id, and no label of ours."""
    job_id = in_docker.new_id()
    port = free_port()
    job = json.dumps({"job_id": job_id, "specs": {"model_path": "/scenario/ready"}})
    image = tao_image.names[TEXT_ARCH]
    command = f"umask 0 && python -m {HF_SERVER} --port 8080 --job '{job}' --docker_env_vars '{{}}'"
    published = ["--publish", f"127.0.0.1:{port}:8080", "--name", job_id, "--entrypoint", "/bin/sh"]
    in_docker.engine.docker("run", "--detach", "--init", *published, image, "-c", command)
    entry = {
        "job_id": job_id,
        "platform": "local-docker",
        "network_arch": "tao-dataservices",
        "host_url": f"http://localhost:{port}",
        "docker_url": f"http://{job_id}:8080",
        "host_port": port,
        "started_at": "2026-01-01T00:00:00+00:00",
    }
    in_docker.write_state({job_id: entry, "latest": job_id})

    in_docker.await_state(job_id, "ready")
    assert job_id not in in_docker.recover()
    asked = in_docker.moor("request", "--prompt", "x", "--accept-defaults", "--json")
    assert json.loads(asked.out["data"]["content"])["text"] == "x"
    assert any("/v1/chat/completions" in line for line in in_docker.moor("logs", "--json").out["data"]["lines"])
    taken = in_docker.try_start("ready", "--host-port", str(port))
    assert (taken.rc, job_id in taken.out["error"]["message"]) == (6, True)
    assert in_docker.read_state() == {job_id: entry, "latest": job_id}
    assert in_docker.moor("stop", "--json").out["data"] == {"stopped": [job_id], "latest": None}
    assert in_docker.left_of(job_id) == []
