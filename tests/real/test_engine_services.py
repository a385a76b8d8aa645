"""One service, end to end, on real vLLM: as a local process and in a real container."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from moorage.launch.processes import identity_from, session_members
from tests.real.parts.vllm_image import load_vllm_image

pytestmark = pytest.mark.vllm

START = ("start", "--network-arch", "vllm", "--json", "--wait", "240")
SAMPLING = ("--max-tokens", "8", "--temperature", "0", "--top-p", "1")


def eventually(condition, *, within_s=30.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {within_s} s"
        time.sleep(0.1)


def ask_everything(moor, entry, tmp_path):
    """Text, a stream and a raw body; the answers are cut short, so only their shape is looked at."""
    job_id = entry["job_id"]
    asked = moor("request", "--prompt", "What is 2+2?", *SAMPLING, "--json")
    assert asked.rc == 0, asked
    assert asked.out["data"]["job_id"] == job_id
    assert isinstance(asked.out["data"]["content"], str)
    assert asked.out["data"]["response"]["model"] == entry["served_model_name"]
    streamed = moor("request", "--job-id", job_id, "--prompt", "What is 2+2?", *SAMPLING, "--stream", "--json")
    *deltas, envelope = streamed.out
    assert "".join(item["delta"] for item in deltas) == envelope["data"]["content"] == asked.out["data"]["content"]
    body = {"messages": [{"role": "user", "content": "2+2"}], "max_tokens": 4, "return_token_ids": True, "top_k": 1}
    raw = tmp_path / "body.json"
    raw.write_text(json.dumps(body))
    answered = moor("request", "--raw-body", raw, "--json")
    assert len(answered.out["data"]["response"]["choices"][0]["token_ids"]) <= 4
    too_long = moor(
        "request", "--prompt", "2+2", "--max-tokens", "1000000", "--temperature", "0", "--top-p", "1", "--json"
    )
    assert (too_long.rc, too_long.out["error"]["code"]) == (2, "bad_request")


class TestLocalProcess:
    def test_started_ready_asked_and_stopped_by_itself_when_idle(self, moor, vllm_python, nano, tmp_path):
        started = moor(*START, "--model-path", nano, "--idle-timeout", "6", timeout=300)
        assert started.rc == 0, started
        entry = started.out["data"]
        assert (entry["state"], entry["platform"]) == ("ready", "local-process")
        ask_everything(moor, entry, tmp_path)
        reaper, leader = identity_from(entry["reaper"]), identity_from(entry)
        assert session_members(reaper)
        assert session_members(leader)
        eventually(lambda: moor("list", "--json").out["data"]["services"] == [], within_s=60)
        assert session_members(leader) == []
        eventually(lambda: session_members(reaper) == [])

    def test_an_engine_that_dies_while_starting_is_told_and_undone(self, moor, vllm_python, nano):
        died = moor(*START, "--model-path", nano, "--", "--no-such-flag", timeout=300)
        assert died.rc == 8, died
        assert 1 <= len(died.out["data"]["log_tail"]) <= 20
        assert any("--no-such-flag" in line for line in died.out["data"]["log_tail"])
        assert moor("list", "--json").out["data"]["services"] == []

    def test_an_engine_that_is_killed_is_seen_dead_and_pruned(self, moor, vllm_python, nano):
        started = moor(*START, "--model-path", nano, timeout=300)
        assert started.rc == 0, started
        entry = started.out["data"]
        for pid in session_members(identity_from(entry)):
            if pid != entry["pid"]:
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: moor("status", "--json").out["data"]["state"] == "exited")
        refused = moor("request", "--job-id", entry["job_id"], "--prompt", "2+2", *SAMPLING, "--json")
        assert refused.rc == 8
        assert moor("prune", "--json").out["data"] == {"pruned": [entry["job_id"]]}


@pytest.mark.docker
class TestLocalDocker:
    @pytest.fixture
    def image(self, docker_engine, vllm_python, monkeypatch):
        image = load_vllm_image(docker_engine, vllm_python)
        monkeypatch.setenv("IMAGE_VLLM", image.name)
        yield image
        docker_engine.docker("rmi", "-f", image.name, check=False)

    def test_started_ready_asked_and_stopped_in_a_container(self, moor, image, nano, tmp_path, docker_engine):
        flags = [*image.flags(), "--mount", f"{nano}:/models/nano:ro", "--gpus", "none"]
        started = moor(
            *START, "--platform", "local-docker", "--model-path", "/models/nano", *flags, "--pull", "never", timeout=300
        )
        assert started.rc == 0, started
        entry = started.out["data"]
        assert entry["host_url"] == f"http://localhost:{entry['host_port']}"
        assert entry["docker_url"] == f"http://{entry['job_id']}:8080"
        ask_everything(moor, entry, tmp_path)
        assert moor("logs", "--tail", "1", "--json").out["data"]["lines"]
        assert moor("stop", "--json").out["data"] == {"stopped": [entry["job_id"]], "latest": None}
        left = docker_engine.docker("ps", "-aq", "--filter", f"name={entry['job_id']}")
        assert left.stdout.strip() == ""
