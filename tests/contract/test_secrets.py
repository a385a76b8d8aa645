"""Secrets reach the service that needs them and are seen nowhere; prompts go nowhere but to the service."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.contract.stand_ins import StandIns, every_command_line, processes_of

REDIRECTING = """#!/usr/bin/env python3
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "ready", "job_id": os.environ["TAO_API_JOB_ID"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.send_response(307)
        self.send_header("Location", os.environ["TRAP"] + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["MOORAGE_PORT"])), Handler).serve_forever()
"""
TELLTALE = '#!/bin/sh\necho "my token is $HF_TOKEN"\nexit 3\n'


@pytest.fixture
def token() -> str:
    return f"hf_{uuid.uuid4().hex}"


@pytest.mark.parametrize("model", ["hf_model://org/model", None], ids=["hub", "path"])
def test_the_hub_s_token_goes_into_services_of_hub_models_alone(
    stand_ins: StandIns, token: str, model: str | None
) -> None:
    job_id = stand_ins.new_id()
    words = stand_ins.words("ready", "--ttl", "1h", job_id=job_id)
    if model:
        words[words.index("--model-path") + 1] = model
    env = {**stand_ins.env(), "HF_TOKEN": token}
    plan = stand_ins.moor(*words, "--dry-run", env=env)
    assert plan.out["data"]["plan"]["secret_env"] == (["HF_TOKEN"] if model else [])

    start = stand_ins.moor.popen(*words, env=env)
    seen = ""
    while start.poll() is None:
        seen += every_command_line()
    out, err = start.communicate()
    assert start.returncode == 0, (out, err)

    in_service = [Path("/proc", str(pid), "environ").read_bytes() for pid in service_processes(job_id)]
    assert in_service
    assert {f"HF_TOKEN={token}".encode() in environ.split(b"\0") for environ in in_service} == {model is not None}
    listed = stand_ins.moor("list", "--json", env=env)
    logs = stand_ins.moor("logs", "--json", env=env)
    seen += every_command_line() + out + err + repr([plan, listed, logs])
    seen += "".join(path.read_text() for path in stand_ins.state_file.parent.iterdir())
    if stand_ins.engine:
        labels = stand_ins.engine.docker("inspect", "--format", "{{json .Config.Labels}} {{json .Config.Cmd}}", job_id)
        seen += labels.stdout
    assert token not in seen


def service_processes(job_id: str) -> list[int]:
    """All but the reaper, which is no part of the service, and the container's init, which runs no command of ours."""
    return [pid for pid in processes_of(job_id) if b"microservice" in Path("/proc", str(pid), "cmdline").read_bytes()]


def test_a_token_in_the_log_is_shown_by_its_name(local: StandIns, token: str) -> None:
    program(local, TELLTALE)
    words = local.words()
    words[words.index("--model-path") + 1] = "hf_model://org/model"
    done = local.moor(*words, env={**local.env(), "HF_TOKEN": token})
    assert (done.rc, done.out["data"]["log_tail"]) == (8, ["my token is <HF_TOKEN>"])

    job_id = local.new_id()
    words[words.index("--job-id") + 1] = job_id
    local.moor(*words, "--no-wait", env={**local.env(), "HF_TOKEN": token})
    local.await_state(job_id, "exited")
    for more in ([], ["--follow"]):
        logs = local.moor("logs", *more, env={"HF_TOKEN": token})
        assert logs.out == "my token is <HF_TOKEN>\n"


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:8080",
        "http://localhost.example:8080",
        "http://localhost:8080@192.0.2.1",
        "http://localhost:8080/elsewhere",
        "http://localhost:8080?x=",
        "https://[::1",
        "file:///etc/passwd",
        "//localhost:8080",
        "localhost:8080",
        "",
        None,
        7,
        {},
    ],
)
def test_a_changed_address_is_refused(shared: StandIns, url: object) -> None:
    job_id = ready_service(shared)
    state = shared.read_state()
    changed = {**state, job_id: {**state[job_id], "host_url": url}}
    try:
        shared.write_state(changed)
        asked = shared.here("request", "--prompt", "x", "--accept-defaults", "--json")
        planned = shared.here("request", "--prompt", "x", "--accept-defaults", "--dry-run", "--json")
        waited = shared.here("wait", "--json")
        for answer in (asked, planned, waited):
            assert (answer.rc, answer.out["error"]["code"]) == (6, "bad_host_url"), answer
        assert shared.here("status", "--json").out["data"]["state"] == "unknown"
    finally:
        shared.write_state(state)


def ready_service(shared: StandIns) -> str:
    """The module's one service."""
    if not shared.job_ids:
        shared.start(arch="tao-dataservices")
    return shared.job_ids[0]


@pytest.fixture
def trap() -> Iterator[tuple[str, list[str]]]:
    """A server that nothing may ever ask: its URL, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_GET = do_CONNECT = do_POST

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_redirects_are_not_followed(local: StandIns, trap: tuple[str, list[str]]) -> None:
    url, asked = trap
    program(local, REDIRECTING)
    local.start(env={"TRAP": url})
    picture = local.picture()
    done = local.moor("request", "--prompt", "x", "--image", picture, "--accept-defaults", "--json")
    assert (done.rc, "307" in done.out["error"]["message"]) == (8, True)
    assert asked == []


def test_proxies_are_not_used(local: StandIns, trap: tuple[str, list[str]]) -> None:
    url, asked = trap
    proxies = {name: url for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")}
    local.start(arch="tao-dataservices", env={**proxies, "NO_PROXY": None, "no_proxy": None})
    env = {**proxies, "NO_PROXY": None, "no_proxy": None}
    assert local.moor("request", "--prompt", "x", "--accept-defaults", "--json", env=env).rc == 0
    assert local.moor("list", "--json", env=env).out["data"]["services"][0]["state"] == "ready"
    assert asked == []


@pytest.mark.parametrize("name", ["HF_TOKEN", "NGC_KEY", "AWS_SECRET_ACCESS_KEY"])
def test_a_secret_in_a_body_is_refused(shared: StandIns, tmp_path: Path, token: str, name: str) -> None:
    ready_service(shared)
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"messages": [{"role": "user", "content": f"use {token}"}]}).replace("hf_", "\\u0068f_"))
    for words in (["--prompt", f"use {token}", "--accept-defaults"], ["--raw-body", body]):
        done = shared.here("request", *words, "--json", env={name: token})
        assert (done.rc, done.out["error"]["code"]) == (2, "secret_in_body")
        assert name in done.out["error"]["message"]
        assert token not in repr(done)
        assert shared.here("request", *words, "--json", env={name: "short"}).rc == 0


def program(local: StandIns, text: str) -> None:
    """Take the place of the cosmos-rl server."""
    place = local.state_file.parents[1] / "programs" / "cosmos-rl-inference-microservice"
    place.write_text(text)
    place.chmod(0o755)
