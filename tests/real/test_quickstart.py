"""The first minute, as a new user meets it."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.vllm


def test_quickstart_starts_asks_shows_and_stops(moor, vllm_python):
    done = moor("quickstart", "--json", timeout=300, env={"MOORAGE_VLLM_PYTHON": str(vllm_python)})
    assert done.rc == 0, done
    data = done.out["data"]
    assert data["prompt"] == "What is 2+2?"
    assert data["answer"].endswith("=4")
    first, second = (int(part) for part in re.findall(r"\d+", data["asked"][1]["prompt"]))
    # nano is wrong once in a few hundred sums: the answer must be one, and near
    answer = int(data["asked"][1]["answer"].rpartition("=")[2])
    assert abs(answer - (first + second)) <= 10
    assert {"install", "start", "load", "ready", "ask", "stop"} <= set(data["phases_s"])
    assert data["url"].endswith("/v1/chat/completions")
    assert len(data["next"]) == 3
    assert moor("list", "--json").out["data"]["services"] == []
    events = done.err.splitlines()
    assert all(line.startswith("{") for line in events)


def test_quickstart_keeps_it_when_asked(moor, vllm_python):
    kept = moor("quickstart", "--keep", "--json", timeout=300).out["data"]
    assert moor("status", kept["job_id"], "--json").out["data"]["state"] == "ready"
    assert moor("stop", kept["job_id"], "--json").rc == 0
