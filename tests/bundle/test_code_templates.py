"""Every block of code-templates.yaml and every code example of request.yaml, on services that really run.

The services are started by hand from what a block prints, as somebody would who follows the templates and not `moor`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from moorage.catalog.engine_python import engine_environment, has_nvidia_gpu
from tests.bundle.blocks import Runner, examples, templates
from tests.conftest import Moor
from tests.contract.stand_ins import add_dataservices, processes_of, until, write_picture

BLOCKS = templates()
SHARED_BLOCKS = (
    *("readiness_check", "request.registry_read", "request.send"),
    *("stop.registry_read", "stop.platform_stop", "stop.registry_cleanup"),
)
ELSEWHERE = ("slurm", "kubernetes", "brev", "lepton")
BUILT_BY_HAND = ("cosmos-rl", "cosmos-predict2.5", "tao-dataservices", "vllm")
TEXT_EXAMPLES = ("python_text", "curl_text")
IMAGE_EXAMPLES = ("python_image", "curl_image")


@pytest.fixture
def run(tmp_path: Path, state_file: Path) -> Runner:
    return Runner(tmp_path / "empty")


@pytest.fixture
def tao_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of all three TAO archs on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{add_dataservices(folder)}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("tao_path")
@pytest.mark.parametrize("arch", ["cosmos-rl", "cosmos-predict2.5", "tao-dataservices"])
def test_a_local_process_by_hand(run: Runner, state_file: Path, arch: str) -> None:
    plan = build(run, arch, "local-process", "hf_model://nvidia/some-model")
    with by_hand(run, plan):
        record_ready_and_named(run, "local_process", arch)
        if arch == "cosmos-rl":
            assert "needs an image or a video" in run.attempt(BLOCKS["request.send"], MOORAGE_PROMPT="2+2?").stderr
        elif arch == "cosmos-predict2.5":
            saved = Path(run(BLOCKS["request.send"], MOORAGE_PROMPT="A harbour").strip())
            assert saved.parent == run.folder
            assert b"ftypisom" in saved.read_bytes()
        else:
            assert json.loads(run(BLOCKS["request.send"], MOORAGE_PROMPT="2+2?"))["text"] == "2+2?"
        stop_and_forget(run, state_file)
        assert until(lambda: not processes_of(plan["job_id"]), "the end of every process")


@pytest.mark.vllm
def test_vllm_by_hand(run: Runner, state_file: Path, vllm_python: Path, nano: Path) -> None:
    plan = build(run, "vllm", "local-process", str(nano))
    gpu = has_nvidia_gpu(os.environ)
    with by_hand(run, plan, engine_environment("vllm", vllm_python, gpu, os.environ)):
        record_ready_and_named(run, "local_process", "vllm")
        assert run(BLOCKS["request.send"], MOORAGE_PROMPT="2+2?").strip()
        for name in TEXT_EXAMPLES:
            assert run(examples()[name], MOORAGE_URL=f"http://localhost:{run.inputs['MOORAGE_HOST_PORT']}").strip()
        stop_and_forget(run, state_file)


@pytest.mark.docker
def test_a_container_by_hand(run: Runner, state_file: Path, docker_engine: Any, tao_image: Any) -> None:
    arch = "tao-dataservices"
    plan = build(run, arch, "local-docker", "/scenario/ready", **tao_image.environ)
    job_id, port = plan["job_id"], free_port()
    run.inputs["MOORAGE_HOST_PORT"] = str(port)
    environment = [word for name, value in plan["env"].items() for word in ("--env", f"{name}={value}")]
    place = ["--detach", "--name", job_id, "--publish", f"127.0.0.1:{port}:8080"]
    image = tao_image.names[arch]
    docker_engine.docker("run", *place, *environment, "--entrypoint", "/bin/sh", image, "-c", plan["command"])
    try:
        record_ready_and_named(run, "local_docker", arch)
        assert json.loads(run(BLOCKS["request.send"], MOORAGE_PROMPT="2+2?"))["text"] == "2+2?"
        stop_and_forget(run, state_file)
        assert docker_engine.docker("ps", "-aq", "--filter", f"name={job_id}").stdout.strip() == ""
    finally:
        docker_engine.docker("rm", "-f", job_id, check=False)


def test_sglang_is_built_as_the_plan_of_a_start(run: Runner, moor: Moor) -> None:
    """No SGLang can be had here, so its block is held against `moor start`."""
    plan = build(run, "sglang", "local-docker", "hf_model://org/model")
    flags = ("--network-arch", "sglang", "--model-path", "hf_model://org/model", "--platform", "local-docker")
    dry = moor("start", *flags, "--job-id", plan["job_id"], "--dry-run", "--json").out["data"]["plan"]
    assert {**dry, "port": None} == plan


def test_a_local_process_without_the_label_is_not_recorded(run: Runner, state_file: Path) -> None:
    """A stop would not end it."""
    inputs = {"MOORAGE_JOB_ID": str(uuid.uuid4()), "MOORAGE_NETWORK_ARCH": "vllm", "MOORAGE_HOST_PORT": "8080"}
    refused = run.attempt(BLOCKS["registry_write.local_process"], **inputs)
    assert refused.returncode == 1
    assert "MOORAGE_LABEL" in refused.stderr
    assert not state_file.exists()


@pytest.mark.parametrize("platform", ELSEWHERE)
def test_a_service_elsewhere_is_recorded_by_hand(run: Runner, moor: Moor, platform: str) -> None:
    """Nothing runs there: what counts is that every command finds the entry, and asks that address."""
    job_id = str(uuid.uuid4())
    inputs = {
        "MOORAGE_JOB_ID": job_id,
        "MOORAGE_PLATFORM_JOB_ID": "4711",
        "MOORAGE_HOST_PORT": "8123",
        "MOORAGE_HOST_URL": "http://192.0.2.7:8080",
        "MOORAGE_NAMESPACE": "default",
        "MOORAGE_INSTANCE_ID": "box",
        "MOORAGE_SLURM_NODE": "node1",
        "MOORAGE_TOKEN_ENV": "MY_KEY",
    }
    assert job_id in run(BLOCKS[f"registry_write.{platform}"], MOORAGE_NETWORK_ARCH="vllm", **inputs)
    words = ("request", "--job-id", job_id, "--prompt", "x", "--accept-defaults", "--dry-run", "--json")
    url = moor(*words).out["data"]["plan"]["url"]
    assert url.startswith("http://localhost:8123/" if platform in ("slurm", "brev") else "http://192.0.2.7:8080/")
    assert moor("prune", "--forget", job_id, "--json").rc == 0


@pytest.mark.usefixtures("tao_path")
@pytest.mark.parametrize("arch", ["cosmos-predict2.5", "cosmos-rl"])
def test_the_examples_of_a_request(run: Runner, moor: Moor, tmp_path: Path, arch: str) -> None:
    model = "hf_model://nvidia/some-model"
    key = ("--model-key", "base-2b") if arch == "cosmos-predict2.5" else ()
    started = moor("start", "--network-arch", arch, "--model-path", model, *key, "--json")
    assert started.rc == 0, started
    url, picture = started.out["data"]["host_url"], write_picture(tmp_path / "picture.jpg")
    for name in TEXT_EXAMPLES if arch == "cosmos-predict2.5" else IMAGE_EXAMPLES:
        said = run(examples()[name], MOORAGE_URL=url, MOORAGE_IMAGE=str(picture))
        assert ("data:video/mp4" if arch == "cosmos-predict2.5" else "image/jpeg") in said
    if arch == "cosmos-rl":
        for name in TEXT_EXAMPLES:  # without an image the server refuses it, and the example says so
            refused = run.attempt(examples()[name], MOORAGE_URL=url)
            assert refused.returncode != 0
            assert "invalid_request" in refused.stdout + refused.stderr


def test_every_block_is_run_above() -> None:
    run_above = {f"job_payload_builder.{arch}" for arch in (*BUILT_BY_HAND, "sglang")}
    run_above |= {"registry_write.local_process", "registry_write.local_docker", *SHARED_BLOCKS}
    run_above |= {f"registry_write.{platform}" for platform in ELSEWHERE}
    assert run_above == set(BLOCKS)
    assert {*TEXT_EXAMPLES, *IMAGE_EXAMPLES} == set(examples())


def build(run: Runner, arch: str, platform: str, model: str, **environ: str) -> dict[str, Any]:
    """What the builder of the arch prints; its job id is an input of the blocks that follow."""
    inputs = {"MOORAGE_MODEL_PATH": model, "MOORAGE_MODEL_KEY": "base-2b", "MOORAGE_PLATFORM": platform}
    plan: dict[str, Any] = json.loads(run(BLOCKS[f"job_payload_builder.{arch}"], **inputs))
    assert (plan["network_arch"], plan["platform"]) == (arch, platform)
    run.inputs |= {"MOORAGE_JOB_ID": plan["job_id"]}
    return plan


@contextmanager
def by_hand(run: Runner, plan: dict[str, Any], environ: dict[str, str] | None = None) -> Iterator[None]:
    """The plan's command with the label that registry_write.local_process asks for; ended whatever happened."""
    port = run.inputs["MOORAGE_HOST_PORT"] = str(free_port())
    label = json.dumps({"job_id": plan["job_id"]})
    place = {"MOORAGE_LABEL": label, "MOORAGE_HOST": "127.0.0.1", "MOORAGE_PORT": port}
    with (run.folder.parent / "server.log").open("w") as log:
        server = subprocess.Popen(
            ["/bin/sh", "-c", plan["command"]],
            env={**os.environ, **(environ or {}), **plan["env"], **place},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # what setsid does
        )
    try:
        yield
    finally:
        for pid in processes_of(plan["job_id"]):
            os.kill(pid, signal.SIGKILL)
        server.wait(30)


def record_ready_and_named(run: Runner, platform: str, arch: str) -> None:
    """Write the entry, wait, and see that a request would go there."""
    job_id = run.inputs["MOORAGE_JOB_ID"]
    said = run(BLOCKS[f"registry_write.{platform}"], MOORAGE_NETWORK_ARCH=arch)
    assert said.startswith("Inference service started.\n")
    assert job_id in said
    assert run(BLOCKS["readiness_check"]).strip() == f"{job_id} is ready"
    assert f"Sending to job_id={job_id} arch={arch}" in run(BLOCKS["request.registry_read"])


def stop_and_forget(run: Runner, state_file: Path) -> None:
    job_id = run.inputs["MOORAGE_JOB_ID"]
    assert run(BLOCKS["stop.registry_read"]).startswith(f"Stopping job_id={job_id}\n")
    assert run(BLOCKS["stop.platform_stop"]).strip() == f"{job_id} is stopped"
    assert run(BLOCKS["stop.registry_cleanup"]).strip() == "latest: None"
    assert json.loads(state_file.read_text()) == {}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
