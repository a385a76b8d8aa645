"""The real parts themselves: other tests may lean on them only because these pass."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from moorage.catalog.catalog import load_catalog
from moorage.catalog.command import inner_command
from moorage.catalog.engine_python import engine_environment, has_nvidia_gpu
from moorage.catalog.model_path import parse_model_path
from tests.contract.platform_contract import free_port
from tests.real.parts.container_image import TAO_ARCHS, TaoImage
from tests.real.parts.docker_engine import DockerEngine
from tests.real.parts.tao_server import OTHER_JOB_ID

ROOT = Path(__file__).resolve().parents[2]
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG...").decode()


@dataclass(frozen=True)
class Stand:
    """One container with the stand-in, started with the inner command that Moorage builds."""

    engine: DockerEngine
    job_id: str
    port: int

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def chat(self, body: Any = None, **sampling: Any) -> requests.Response:
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        return requests.post(url, json=ask("hi", PIXEL) | sampling if body is None else body, timeout=10)

    def reason(self) -> str | None:
        """The readiness body's reason, `ready`, or None while nothing answers."""
        try:
            body = self.get("/api/v1/health/readiness").json()
        except requests.ConnectionError:
            return None
        return str(body.get("reason", body["status"]))

    def await_reason(self, wanted: str) -> None:
        try:
            until(self.reason, wanted)
        except AssertionError as fault:
            log = self.engine.docker("logs", self.job_id, check=False)
            raise AssertionError(f"{fault}; {self.state()}; {log.stdout}{log.stderr}") from fault

    def state(self) -> tuple[str, int]:
        words = "{{.State.Status}} {{.State.ExitCode}}"
        status, code = self.engine.docker("inspect", "--format", words, self.job_id).stdout.split()
        return status, int(code)


Start = Callable[..., Stand]


@pytest.fixture
def start(docker_engine: DockerEngine, tao_image: TaoImage) -> Iterator[Start]:
    """`start(arch, scenario)`"""
    catalog, started = load_catalog(ROOT), []

    def run(arch: str, scenario: str = "", model_path: str = "") -> Stand:
        job_id = str(uuid.uuid4())
        command = inner_command(
            catalog,
            arch,
            job_id=job_id,
            model_path=parse_model_path(model_path or f"/scenario/{scenario}"),
            platform="local-docker",
            num_gpus=1,
            model_key="base-2b" if model_path and arch == "cosmos-predict2.5" else None,
        )
        started.append(job_id)
        publish = ["--detach", "--name", job_id, "--publish", "127.0.0.1::8080"]
        docker_engine.docker("run", *publish, tao_image.names[arch], "/bin/sh", "-c", command)
        address = docker_engine.docker("port", job_id, "8080/tcp", check=False).stdout.strip()
        return Stand(docker_engine, job_id, int(address.rpartition(":")[2] or 0))

    yield run
    docker_engine.docker("rm", "--force", "--volumes", *started, check=False)


def ask(text: str, media: str | None = None) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": media}}] if media else []
    return {"messages": [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]}


def until(probe: Callable[[], Any], wanted: Any, within_s: float = 90) -> None:
    deadline, seen = time.monotonic() + within_s, []
    while (found := probe()) != wanted:
        seen.append(found)
        assert time.monotonic() < deadline, f"wanted {wanted!r}, saw {seen[-3:]}"
        time.sleep(0.05)


@pytest.mark.docker
@pytest.mark.parametrize("arch", TAO_ARCHS)
def test_each_arch_s_own_command_brings_its_server_to_ready(start: Start, arch: str) -> None:
    stand = start(arch, model_path="hf_model://org/model")
    stand.await_reason("ready")
    liveness = stand.get("/api/v1/health/liveness")
    assert liveness.status_code == 200
    # The predict server takes no job and so knows no id.
    assert liveness.json()["job_id"] == (None if arch == "cosmos-predict2.5" else stand.job_id)
    assert liveness.json()["model_loaded"] is True
    assert stand.get("/v1/models").status_code == 404


@pytest.mark.docker
@pytest.mark.parametrize(
    ("scenario", "reason", "status", "kind"),
    [
        ("slow-init/60", "server_initializing", 202, "server_initializing"),
        ("never-ready", "model_loading", 202, "model_loading"),
        ("init-error", "initialization_failed", 503, "initialization_error"),
        ("load-error", "model_load_failed", 503, "model_load_error"),
        ("not-loaded", "model_not_loaded", 503, "model_not_ready"),
    ],
)
def test_a_server_that_is_not_ready_has_two_ways_to_say_so(
    start: Start, scenario: str, reason: str, status: int, kind: str
) -> None:
    stand = start("cosmos-rl", scenario)
    stand.await_reason(reason)
    readiness = stand.get("/api/v1/health/readiness")
    assert (readiness.status_code, readiness.json()["job_id"]) == (503, stand.job_id)
    assert "error" not in readiness.json()
    answer = stand.chat()
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)


@pytest.mark.docker
def test_a_slow_model_loads_in_the_end(start: Start) -> None:
    stand = start("tao-dataservices", "slow/1.5")
    stand.await_reason("model_loading")
    stand.await_reason("ready")


@pytest.mark.docker
@pytest.mark.parametrize(("scenario", "code"), [("crash-at-start/3", 3), ("die-while-loading/0.2", 17)])
def test_a_server_that_dies_leaves_its_last_words(start: Start, scenario: str, code: int) -> None:
    stand = start("cosmos-rl", scenario)
    until(stand.state, ("exited", code))
    assert "RuntimeError" in stand.engine.docker("logs", "--tail", "1", stand.job_id).stderr


@pytest.mark.docker
def test_the_odd_ones_a_stranger_a_web_page_and_the_oldest(start: Start) -> None:
    stranger = start("cosmos-rl", "other-job")
    stranger.await_reason("ready")
    assert stranger.get("/api/v1/health/readiness").json()["job_id"] == OTHER_JOB_ID

    page = start("cosmos-rl", "html")
    until(lambda: answers(page, "/api/v1/health/readiness"), (200, "text/html; charset=utf-8"))
    assert "<html>" in page.chat().text

    oldest = start("cosmos-rl", "oldest")
    until(lambda: answers(oldest, "/health"), (200, "application/json"))
    until(lambda: oldest.get("/health").json()["model_loaded"], True)
    assert oldest.get("/api/v1/health/readiness").status_code == 404
    assert oldest.chat().status_code == 404


def answers(stand: Stand, path: str) -> tuple[int, str] | None:
    try:
        answer = stand.get(path)
    except requests.ConnectionError:
        return None
    return answer.status_code, answer.headers["Content-Type"]


@pytest.mark.docker
def test_what_a_ready_server_takes_and_refuses(start: Start) -> None:
    stand = start("cosmos-rl", "ready")
    stand.await_reason("ready")
    good = stand.chat(top_p=0.5, guidance=3)
    (choice,) = good.json()["choices"]
    assert (good.status_code, choice["finish_reason"], "usage" in good.json()) == (200, "stop", False)
    seen = json.loads(choice["message"]["content"])
    assert (seen["text"], seen["media"], seen["sampling"]) == ("hi", ["image/png"], {"top_p": 0.5})

    refusals = {
        "empty": ({}, 400, "invalid_request"),
        "no media": (ask("hi"), 400, "invalid_request"),
        "cloud": (ask("hi", "s3://bucket/a.png"), 400, "invalid_request"),
        "type": (ask("hi", "data:image/jpg;base64,aGk="), 400, "invalid_request"),
        "parameters": (ask("hi", "data:image/png;charset=utf-8;base64,aGk="), 500, "internal_error"),
        "no messages": ({"model": "m"}, 400, "invalid_request"),
    }
    for name, (body, status, kind) in refusals.items():
        answer = stand.chat(body)
        assert (name, answer.status_code, answer.json()["error"]["type"]) == (name, status, kind)
    url = f"http://127.0.0.1:{stand.port}/v1/chat/completions"
    for headers, data in (({"Content-Type": "application/json"}, "{"), ({"Content-Type": "text/plain"}, "{}")):
        assert requests.post(url, data=data, headers=headers, timeout=10).status_code == 500


@pytest.mark.docker
def test_the_predict_server_replies_with_a_video(start: Start) -> None:
    stand = start("cosmos-predict2.5", "ready")
    stand.await_reason("ready")
    answer = stand.chat(ask("rain") | {"num_steps": 4, "temperature": 1}).json()
    content = answer["choices"][0]["message"]["content"]
    prefix = "data:video/mp4;base64,"
    assert content.startswith(prefix)
    video = base64.b64decode(content.removeprefix(prefix))
    assert video[4:8] == b"ftyp"
    assert b'"mode": "text2world"' in video
    assert b'"sampling": {"num_steps": 4}' in video
    assert stand.chat(ask("rain") | {"guidance": 9}).status_code == 400


@pytest.mark.docker
def test_only_the_engine_with_the_nvidia_hook_gives_gpus(
    docker_engine: DockerEngine,
    tao_image: TaoImage,
    docker_engine_with_gpus: DockerEngine,
    tao_image_with_gpus: TaoImage,
) -> None:
    name = tao_image_with_gpus.names["cosmos-rl"]
    words = ["run", "--rm", "--gpus", "device=1"]
    given = docker_engine_with_gpus.docker(*words, name, "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES")
    assert given.stdout == "1\n"
    assert docker_engine_with_gpus.hook_log is not None
    assert json.loads(docker_engine_with_gpus.hook_log.read_text().splitlines()[0])["bundle"]
    if not has_nvidia_gpu(os.environ):
        refused = docker_engine.docker(*words, tao_image.names["cosmos-rl"], "true", check=False)
        assert refused.returncode == 125
        assert "could not select device driver" in refused.stderr


@pytest.mark.docker
def test_the_network_of_the_engine_with_gpus_is_its_own(
    docker_engine_with_gpus: DockerEngine, tao_image_with_gpus: TaoImage
) -> None:
    engine, port = docker_engine_with_gpus, free_port()
    name = f"moor-{uuid.uuid4()}"
    server = ["python3", "-m", "http.server", "8080"]
    image = tao_image_with_gpus.names["cosmos-rl"]
    engine.docker("run", "--detach", "--rm", "--name", name, "--publish", f"127.0.0.1:{port}:8080", image, *server)
    code = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=5)"
    ask_it = [sys.executable, "-c", code]
    until(lambda: subprocess.run([*engine.enter, *ask_it], capture_output=True, check=False).returncode, 0)
    outside = subprocess.run(ask_it, capture_output=True, text=True, check=False)
    assert "Connection refused" in outside.stderr
    engine.docker("rm", "--force", name)


@pytest.mark.vllm
def test_a_stock_engine_serves_the_nano_in_the_environment_it_is_given(
    vllm_python: Path, nano: Path, tmp_path: Path
) -> None:
    """No flag but the ones every start has: all that a CPU needs comes by environment."""
    port = free_port()
    command = f"exec python3 -m vllm.entrypoints.openai.api_server --model {nano} --served-model-name tiny"
    command += f" --host 127.0.0.1 --port {port} --tensor-parallel-size 1"
    environ = {**os.environ, **engine_environment("vllm", vllm_python, has_nvidia_gpu(os.environ), os.environ)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            ["/bin/sh", "-c", command], env=environ, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    try:

        def health() -> int | None:
            assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
            try:
                return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code
            except requests.ConnectionError:
                return None

        until(health, 200, within_s=240)
        body = {"model": "tiny", "max_tokens": 8, "logprobs": True, "messages": ask("What is 2+2?")["messages"]}
        answer = requests.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200
        assert 1 <= answer.json()["usage"]["completion_tokens"] <= 8
        assert len(answer.json()["choices"][0]["logprobs"]["content"]) == answer.json()["usage"]["completion_tokens"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
