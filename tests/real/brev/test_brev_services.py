"""Whole services on Brev through the command line: asked, interrupted and killed at every step, found again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.contract.stand_ins import StandIns, every_command_line, processes_of, until
from tests.real.parts.brev_shim import Shim
from tests.real.parts.remote_box import RemoteBox

pytestmark = [pytest.mark.remote, pytest.mark.docker]

NEW = ("--instance-type", "cpu.4x16", "--pull", "missing")
TEXT_ARCH = "tao-dataservices"
HOLD_PORTS = """
import socket, sys, time
held = [socket.create_server(("127.0.0.1", port)) for port in range(8080, int(sys.argv[1]) + 1)]
time.sleep(600)
"""


@pytest.fixture
def to_create(services: StandIns, shim: Shim, machine: dict[str, Any]) -> StandIns:
    """No instance runs, and one can be created."""
    shim.change(workspaces=[], spares=[machine])
    return services


def request(services: StandIns, job_id: str) -> Any:
    done = services.moor("request", "--job-id", job_id, "--prompt", "hello", "--accept-defaults", "--json")
    assert done.rc == 0, done
    return done.out["data"]


def stop(services: StandIns, job_id: str, *flags: str) -> None:
    done = services.moor("stop", job_id, *flags, "--json")
    assert done.rc == 0, done


def test_from_start_to_stop(services: StandIns) -> None:
    entry = services.start(arch=TEXT_ARCH)
    job_id = entry["job_id"]
    assert (entry["state"], entry["instance_id"], entry["created_instance"]) == ("ready", "box", False)
    assert entry["docker_url"] == f"http://{job_id}:8080"
    assert request(services, job_id)
    assert services.moor("logs", job_id, "--json").out["data"]["lines"]
    listed = services.seen(job_id)
    assert (listed["state"], listed["tunnel"]["state"]) == ("ready", "up")
    done = services.moor("stop", job_id, "--json")
    assert done.rc == 0
    assert "the Brev instance box stays up and costs" in done.err
    assert services.left_of(job_id) == []


def test_three_at_once(services: StandIns) -> None:
    services.own_ports = False
    ids = [services.new_id() for _ in range(3)]
    starts = [services.popen_start(arch=TEXT_ARCH, job_id=job_id) for job_id in ids]
    for start in starts:
        out, err = start.communicate(timeout=120)
        assert start.returncode == 0, (out, err)
    assert len({services.read_state()[job_id]["host_port"] for job_id in ids}) == 3
    for job_id in ids:
        assert request(services, job_id)
    assert services.moor("stop", "--all", "--json").rc == 0
    assert [services.left_of(job_id) for job_id in ids] == [[], [], []]


def test_a_port_that_is_taken_there_is_not_taken(services: StandIns, box: RemoteBox) -> None:
    """Moorage tries the next one. Those below may be taken here, and free again a moment later."""
    services.own_ports = False
    first = services.start(arch=TEXT_ARCH)
    stop(services, first["job_id"])
    taken = str(first["host_port"])
    holder = box.host.popen(["python3", "-c", HOLD_PORTS, taken])
    try:
        until(
            lambda: box.host.run(["sh", "-c", f"ss -ltn | grep -c :{taken}"], check=False).returncode == 0, "it holds"
        )
        entry = services.start(arch=TEXT_ARCH)
    finally:
        holder.terminate()
        holder.wait()
    assert entry["host_port"] > first["host_port"]
    assert request(services, entry["job_id"])


def test_with_the_system_s_ssh(services: StandIns) -> None:
    entry = services.start("ready", "--ssh-client", "openssh", arch=TEXT_ARCH)
    assert request(services, entry["job_id"])
    assert services.seen(entry["job_id"])["state"] == "ready"
    stop(services, entry["job_id"])
    assert services.left_of(entry["job_id"]) == []


def test_created_and_deleted(to_create: StandIns, shim: Shim) -> None:
    entry = to_create.start("ready", *NEW, arch=TEXT_ARCH)
    assert (entry["instance_id"], entry["created_instance"]) == (f"moorage-{entry['job_id'][:8]}", True)
    assert request(to_create, entry["job_id"])
    stop(to_create, entry["job_id"], "--delete-instance")
    assert shim.names() == []
    assert to_create.left_of(entry["job_id"]) == []


def test_three_instances_at_once(to_create: StandIns, shim: Shim, machine: dict[str, Any], box: RemoteBox) -> None:
    shim.change(spares=[machine] * 3)
    ids = [to_create.new_id() for _ in range(3)]
    starts = [to_create.popen_start("ready", *NEW, "--no-wait", job_id=job_id) for job_id in ids]
    for start in starts:
        out, err = start.communicate(timeout=120)
        assert start.returncode == 0, (out, err)
    assert sorted(shim.names()) == sorted(f"moorage-{job_id[:8]}" for job_id in ids)
    # The three are one box here, so that each would see the services of the others.
    box.engine.docker("rm", "--force", *ids)
    assert to_create.moor("stop", "--all", "--delete-instance", "--json").rc == 0
    assert shim.names() == []


def test_a_service_that_dies_takes_its_instance_along(to_create: StandIns, shim: Shim) -> None:
    done = to_create.try_start("crash-at-start", *NEW)
    assert done.rc == 8, done
    assert done.out["data"]["log_tail"]
    assert shim.names() == []
    assert to_create.read_state() == {}


def test_no_capacity(to_create: StandIns, shim: Shim) -> None:
    shim.change(no_capacity=True)
    done = to_create.try_start("ready", *NEW)
    assert (done.rc, done.out["error"]["code"]) == (9, "no_capacity")
    assert "currently unavailable (no capacity)" in done.out["error"]["message"]
    assert to_create.read_state() == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_the_instance_comes_up(to_create: StandIns, shim: Shim, number: signal.Signals) -> None:
    shim.change(hold_at=1)
    job_id = to_create.new_id()
    start = to_create.popen_start("ready", *NEW, job_id=job_id)
    until(lambda: shim.names(), "it is created")
    start.send_signal(number)
    out, err = start.communicate(timeout=60)
    assert (start.returncode, json.loads(out)["error"]["code"]) == (130, "interrupted"), err
    assert shim.names() == []
    assert to_create.left_of(job_id) == []


def test_interrupted_while_a_new_instance_pulls(to_create: StandIns, shim: Shim, box: RemoteBox) -> None:
    with socket.create_server((box.host.gateway, 0)) as silent_registry:
        silent_registry.settimeout(90)
        image = f"{box.host.gateway}:{silent_registry.getsockname()[1]}/nobody/nothing:1"
        job_id = to_create.new_id()
        start = to_create.popen_start("ready", *NEW, job_id=job_id, env={"IMAGE_COSMOS_RL": image})
        connection, _ = silent_registry.accept()
        with connection:
            start.send_signal(signal.SIGINT)
            out, err = start.communicate(timeout=60)
    assert (start.returncode, json.loads(out)["error"]["code"]) == (130, "interrupted"), err
    assert "Traceback" not in err
    assert shim.names() == []
    assert to_create.left_of(job_id) == []


@pytest.mark.parametrize("place", ["ls", "before-create", "after-create", "refresh"])
def test_killed_inside_a_call_of_brev(to_create: StandIns, shim: Shim, place: str) -> None:
    """Nothing is left after a stop, also when Brev goes on with what it was told."""
    job_id = to_create.new_id()
    shim.change(block=place)
    start = to_create.popen_start("ready", *NEW, job_id=job_id)
    shim.await_block(place)
    kill(start)
    if place == "ls":  # not even reserved
        shim.unblock()
        assert to_create.read_state() == {}
        assert to_create.left_of(job_id) == []
        return
    stopping = to_create.moor.popen("stop", job_id, "--delete-instance", "--json", env={})
    shim.unblock()
    out, err = stopping.communicate(timeout=120)
    assert stopping.returncode == 0, (out, err)
    assert shim.names() == []
    assert to_create.left_of(job_id) == []


def test_killed_while_the_instance_comes_up(to_create: StandIns, shim: Shim) -> None:
    shim.change(hold_at=1)
    job_id = to_create.new_id()
    start = to_create.popen_start("ready", *NEW, job_id=job_id)
    until(lambda: shim.names(), "it is created")
    kill(start)
    assert to_create.seen(job_id)["state"] == "starting"
    assert "DEPLOYING" in to_create.seen(job_id)["reason"]
    shim.change(hold_at=99)
    to_create.await_state(job_id, "exited")
    assert "which its start made" in to_create.seen(job_id)["reason"]
    stop(to_create, job_id, "--delete-instance")
    assert shim.names() == []
    assert to_create.left_of(job_id) == []


@pytest.mark.parametrize("moment", ["tunnel", "container", "loading"])
def test_killed_while_it_launches(services: StandIns, box: RemoteBox, moment: str) -> None:
    job_id = services.new_id()
    start = services.popen_start("never-ready", job_id=job_id)
    moments = {
        "tunnel": lambda: processes_of(job_id),
        "container": lambda: services.runs(job_id),
        "loading": lambda: (services.seen(job_id) or {}).get("reason") == "model_loading",
    }
    until(moments[moment], moment, every_s=0.001)
    kill(start)
    stop(services, job_id)
    assert services.left_of(job_id) == []
    assert box.engine.docker("ps", "--all", "--quiet").stdout == ""


def kill(start: subprocess.Popen[str]) -> None:
    os.killpg(start.pid, signal.SIGKILL)  # it leads a session; brev and the tunnel lead their own
    start.communicate(timeout=60)


def test_the_state_file_is_lost(services: StandIns) -> None:
    entry = services.start(arch=TEXT_ARCH)
    services.state_file.unlink()
    os.kill(entry["tunnel"]["pid"], signal.SIGKILL)
    (recovered,) = services.recover().values()
    assert {name: recovered[name] for name in ("job_id", "host_port", "instance_id")} == {
        name: entry[name] for name in ("job_id", "host_port", "instance_id")
    }
    services.await_state(entry["job_id"], "ready")
    assert request(services, entry["job_id"])
    stop(services, entry["job_id"])
    assert services.left_of(entry["job_id"]) == []


def test_secrets_are_seen_by_the_service_alone(services: StandIns, shim: Shim, box: RemoteBox) -> None:
    token, key = f"hf_{uuid.uuid4().hex}", f"ngc-{uuid.uuid4().hex}"
    job_id = services.new_id()
    words = services.words(arch=TEXT_ARCH, job_id=job_id)
    words[words.index("--model-path") + 1] = "hf_model://org/model"
    env = {**services.env(), "HF_TOKEN": token, "NGC_KEY": key, "BREV_API_TOKEN": f"brev-{key}"}
    start = services.moor.popen(*words, env=env)
    seen = ""
    while start.poll() is None:
        seen += every_command_line()  # of the box too: its processes are this machine's
    out, err = start.communicate()
    assert start.returncode == 0, (out, err)

    inside = [Path("/proc", str(pid), "environ").read_bytes() for pid in processes_of(job_id)]
    assert any(f"HF_TOKEN={token}".encode() in environ.split(b"\0") for environ in inside)
    supervisors = [environ for environ in inside if b"MOORAGE_TUNNEL=" in environ]
    assert supervisors
    assert token.encode() not in b"".join(supervisors)
    assert key.encode() not in b"".join(supervisors)
    listed = [services.moor(*verb, "--json", env=env) for verb in (("list",), ("logs", job_id), ("doctor",))]
    seen += every_command_line() + out + err + repr(listed) + json.dumps(shim.state)
    files = [services.state_file.parent, services.state_file.parents[1] / "xdg-state", shim.home / ".brev"]
    seen += "".join(path.read_text(errors="replace") for place in files for path in place.rglob("*") if path.is_file())
    labels = box.engine.docker("inspect", "--format", "{{json .Config.Labels}} {{json .Config.Cmd}}", job_id).stdout
    seen += labels + box.server.log
    assert token not in seen
    assert key not in seen
