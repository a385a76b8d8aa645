"""A declared model's life on a real cluster: served, changed, changed badly, through crashes of all parts, deleted.

The tests are one story, in order: each model takes a minute to load on a quiet machine.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from moorage.launch.processes import identity_of
from tests.contract.gateway_process import wait_until
from tests.contract.serving_process import MODELS
from tests.real.ray.load import Load
from tests.real.ray.plane import LOADS_WITHIN_S, ServingPlane, pids

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

ASK = [{"role": "user", "content": "What is your name?"}]


@pytest.fixture(scope="module")
def served(plane: ServingPlane, first: str) -> Iterator[str]:
    """The key of the model that runs."""
    plane.settled(first, "RUNNING")
    yield first


def ask(base_url: str, model: str, **more: Any) -> Any:
    body = {"model": model, "messages": ASK, "max_tokens": 16, "temperature": 0, **more}
    reply = requests.post(f"{base_url}/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_declared_model_chats_with_token_ids(plane: ServingPlane, served: str) -> None:
    base_url, model = plane.endpoint(served)
    told = ask(base_url, model, return_token_ids=True)
    assert told["prompt_token_ids"] and told["choices"][0]["token_ids"]
    assert "Nano" in told["choices"][0]["message"]["content"]
    body = {"model": model, "messages": ASK, "max_tokens": 8, "stream": True, "return_token_ids": True}
    with requests.post(f"{base_url}/chat/completions", json=body, stream=True, timeout=60) as reply:
        data = [line[6:] for line in reply.iter_lines() if line.startswith(b"data: ")]
    assert data[-1] == b"[DONE]"
    chunks = [json.loads(one) for one in data[:-1]]
    assert chunks[0]["prompt_token_ids"] == told["prompt_token_ids"]
    assert any(choice.get("token_ids") for chunk in chunks for choice in chunk["choices"])


def test_the_gateway_serves_it_by_both_names(plane: ServingPlane, served: str) -> None:
    model = plane.alice.detail(served)["model"]
    gateway = plane.gateway
    wait_until(lambda: model["model_id"] in str(gateway.get("/v1/models").json()))
    for name in (model["model_id"], "alice/first.v1"):
        assert ask(f"{gateway.url}/v1", name)["choices"][0]["message"]["content"]
    assert "Nano" in " ".join(_lines(plane, served)) or _lines(plane, served), "its logs can be read"


def test_a_change_comes_beside_what_serves_and_takes_over(plane: ServingPlane, served: str) -> None:
    """While the control plane is killed in the middle of it, and requests go on all the time."""
    before = plane.alice.detail(served)
    model = before["model"]
    old = pids(before)
    begun = time.monotonic()
    with Load(f"{plane.gateway.url}/v1", model["model_id"]) as load:
        changed = plane.alice.patch(f"{MODELS}/{served}", {"engine_kwargs": {"max_model_len": 1024}})
        assert changed.status_code == 200, changed.text
        plane.crash_and_return()
        after = plane.settled(served, "RUNNING")
        wait_until(lambda: len(_apps(plane)) == 1, within_s=LOADS_WITHIN_S)
    sys.stdout.write(f"a change in {time.monotonic() - begun:.0f} s: {load.figures()}\n")
    assert after["model"]["generation"] == 2 and after["model"]["model_id"] == model["model_id"]
    assert after["serve_status"]["app_name"] != before["serve_status"]["app_name"]
    assert not old & pids(after), "it was built beside"
    assert load.good_s and not load.failed, load.failed
    wait_until(lambda: not any(_alive(pid) for pid in old), within_s=60)


def test_a_bad_change_leaves_what_serves(plane: ServingPlane, served: str) -> None:
    """Another model is declared meanwhile, so that both load at once."""
    before = plane.alice.detail(served)
    with Load(f"{plane.gateway.url}/v1", before["model"]["model_id"]) as load:
        assert plane.alice.patch(f"{MODELS}/{served}", {"engine_kwargs": {"max_model_len": 1 << 30}}).status_code == 200
        failed = plane.settled(served, "FAILED")
        wait_until(lambda: len(_apps(plane)) == 1, within_s=LOADS_WITHIN_S)
    assert "max_model_len" in failed["model"]["error_summary"], failed["model"]["error_summary"]
    conditions = {one["type"]: one for one in failed["model"]["conditions"]}
    assert conditions["Ready"]["status"] == "True" and conditions["Ready"]["reason"] == "RolledBack"
    assert load.good_s and not load.failed, load.failed
    assert plane.endpoint(served)[0].endswith(f"/{before['serve_status']['app_name']}/v1")
    back = plane.alice.patch(f"{MODELS}/{served}", {"engine_kwargs": {"max_model_len": 1024}})
    assert back.status_code == 200
    again = plane.settled(served, "RUNNING")
    assert pids(again) == pids(before), "the build that serves is the one that is wanted once more"


def test_when_ray_dies_all_of_it_comes_back(plane: ServingPlane, served: str) -> None:
    record = plane.record()
    before = pids(plane.alice.detail(served))
    os.kill(record["pid"], signal.SIGKILL)
    wait_until(lambda: plane.record()["cluster_id"] != record["cluster_id"], within_s=LOADS_WITHIN_S)
    assert not any(_alive(pid) for pid in before), "nothing of the old cluster is left when the next one starts"

    def serves() -> bool:
        detail = plane.alice.detail(served)
        now = pids(detail)
        return detail["serve_status"]["app_status"] == "RUNNING" and bool(now) and not before & now

    begun = time.monotonic()
    wait_until(serves, within_s=LOADS_WITHIN_S)
    sys.stdout.write(f"a new cluster serves after {time.monotonic() - begun:.0f} s\n")
    model = plane.settled(served, "RUNNING")["model"]
    assert model["generation"] == 4

    def answers() -> bool:
        body = {"model": model["model_id"], "messages": ASK, "max_tokens": 4}
        return plane.gateway.post("/v1/chat/completions", body).status_code == 200

    wait_until(answers, within_s=60)


def test_a_deleted_model_is_gone(plane: ServingPlane, served: str) -> None:
    before = pids(plane.alice.detail(served))
    assert plane.alice.delete(f"{MODELS}/{served}").json()["state"] == "DELETING"
    wait_until(lambda: plane.alice.detail(served)["model"]["state"] == "DELETED", within_s=LOADS_WITHIN_S)
    assert _apps(plane) == []
    wait_until(lambda: not any(_alive(pid) for pid in before), within_s=60)


def _lines(plane: ServingPlane, key: str) -> list[str]:
    reply = plane.alice.get(f"{MODELS}/{key}/logs?lines=20")
    assert reply.status_code == 200, reply.text
    return reply.text.splitlines()


def _apps(plane: ServingPlane) -> list[str]:
    """What Ray has of this control plane's."""
    told = plane.api.admin.get("/api/v2/serve/status").json()["backend"]
    apps = told["summary"]["applications"] if told["reachable"] else {}
    return [name for name, one in apps.items() if one["ours"]]


def _alive(pid: int) -> bool:
    """Nobody may be there to collect what is dead."""
    return identity_of(pid) is not None
