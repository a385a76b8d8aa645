"""Declared models' lives on a real cluster: served, changed, changed badly, through crashes of all parts, deleted.

The tests are one story, in order: an engine takes half a minute to load on a quiet machine, so that few are loaded, and
two at a time. `python -m tests.campaigns ray` does such things in any order.
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

from tests.conftest import Moor
from tests.contract.gateway_calls import init, steps_of
from tests.contract.serving_process import MODELS
from tests.real.ray.load import Load
from tests.real.ray.plane import ServingPlane, eventually, lives, pids

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

ASK = [{"role": "user", "content": "What is your name?"}]
FIRST, SECOND = "alice/first.v1", "alice/second"


@pytest.fixture(scope="module")
def served(plane: ServingPlane, first: str) -> Iterator[str]:
    """The key of the model that runs."""
    plane.settled(first, "RUNNING")
    yield first


@pytest.fixture(scope="module")
def second(plane: ServingPlane, served: str) -> str:
    """The key of another one, declared beside it; it may still be loading."""
    return plane.declare("second", num_replicas=1)


def test_a_declared_model_chats_with_token_ids(plane: ServingPlane, served: str) -> None:
    base_url, model = plane.endpoint(served)
    told = _ask(base_url, model, return_token_ids=True)
    assert told["prompt_token_ids"] and told["choices"][0]["token_ids"]
    assert "Nano" in told["choices"][0]["message"]["content"]
    chunks = _streamed(f"{base_url}/chat/completions", {"model": model, "messages": ASK, "max_tokens": 8})
    assert chunks[0]["prompt_token_ids"] == told["prompt_token_ids"]
    assert _ids(chunks)


def test_the_gateway_serves_it_by_both_names(plane: ServingPlane, served: str) -> None:
    model = plane.alice.detail(served)["model"]
    gateway = plane.gateway
    eventually(lambda: model["model_id"] in str(gateway.get("/v1/models").json()))
    for name in (model["model_id"], FIRST):
        assert _ask(f"{gateway.url}/v1", name)["choices"][0]["message"]["content"]


def test_a_session_keeps_the_ids_that_the_engine_sampled(plane: ServingPlane, served: str, moor: Moor) -> None:
    """Two turns, whole and streamed, and a step of a trajectory."""
    gateway = plane.gateway
    eventually(lambda: FIRST in str(gateway.get("/v1/models").json()))
    made = gateway.post("/sessions/create", {"model": FIRST, "track_tree": True}).json()
    body = {"messages": ASK, "max_tokens": 12, "return_token_ids": True}
    told = gateway.post(f"/{made['uuid']}/v1/chat/completions", body).json()
    sampled = told["choices"][0]["token_ids"]
    assert told["prompt_token_ids"] == _ask(*plane.endpoint(served), return_token_ids=True)["prompt_token_ids"]
    said = [*ASK, told["choices"][0]["message"], {"role": "user", "content": "What is 2+2?"}]
    chunks = _streamed(f"{gateway.url}/{made['uuid']}/v1/chat/completions", {"messages": said, "max_tokens": 12})
    nodes = gateway.get(f"/{made['uuid']}/nodes").json()["nodes"]
    assert [node["tokens"] for node in nodes] == [
        told["prompt_token_ids"] + sampled,
        chunks[0]["prompt_token_ids"] + _ids(chunks),
    ]
    for node, ids in zip(nodes, (sampled, _ids(chunks)), strict=True):
        assert ids and node["masked_tokens"][-len(ids) :] == ids
        assert all(logprob <= 0 for logprob in node["logprobs"][-len(ids) :])
    rollout = init(gateway)
    told = gateway.post(f"{rollout['path']}/v1/chat/completions", {"model": FIRST, **body}).json()
    [step] = steps_of(gateway, rollout["trajectory_uid"])
    assert (step["prompt_ids"], step["response_ids"]) == (told["prompt_token_ids"], told["choices"][0]["token_ids"])
    checked = moor("trace", "verify", "--all", "--db", f"sqlite:///{gateway.db}", "--json")
    assert checked.rc == 0, checked
    assert checked.out["data"]["calls"] == 3, checked


def test_its_logs_can_be_read(plane: ServingPlane, served: str, moor: Moor) -> None:
    env = {"MOORAGE_SERVING_URL": plane.api.url, "MOORAGE_SERVING_TOKEN": plane.alice.token}
    told = moor("models", "logs", "first.v1", "--tail", "20", "--json", env=env)
    assert told.rc == 0, told
    lines = told.out["data"]["lines"]
    parts = plane.alice.detail(served)["serve_status"]["deployments"]
    [replica] = [one for name, part in parts.items() if name.startswith("LLMServer:") for one in part["replicas"]]
    assert 0 < len(lines) <= 20
    assert all(line.startswith(f"{replica['replica_id']}: ") for line in lines), lines


def test_it_grows_beside_a_new_one_unnoticed(plane: ServingPlane, served: str, request: pytest.FixtureRequest) -> None:
    """One more replica of it, and another model, at once; its requests go on all the time."""
    before = pids(plane.alice.detail(served))
    begun = time.monotonic()
    with Load(f"{plane.gateway.url}/v1", FIRST) as load:
        grown = plane.alice.patch(f"{MODELS}/{served}", {"num_replicas": 2})
        assert grown.status_code == 200, grown.text
        second = request.getfixturevalue("second")
        eventually(lambda: len(pids(plane.alice.detail(served))) == len(before) + 1)
        after = plane.settled(served, "RUNNING")
        plane.settled(second, "RUNNING")
    sys.stdout.write(f"one more replica and one more model in {time.monotonic() - begun:.0f} s: {load.figures()}\n")
    assert load.good_s and not load.failed, load.failed
    assert before < pids(after), "what was there was not touched"
    eventually(lambda: SECOND in str(plane.gateway.get("/v1/models").json()))
    assert _ask(f"{plane.gateway.url}/v1", SECOND)["choices"][0]["message"]["content"]


def test_a_good_change_takes_over_and_a_bad_one_leaves_what_serves(
    plane: ServingPlane, served: str, second: str
) -> None:
    """Of two models at once; the control plane is killed while an engine starts, and requests go on all the time."""
    before, other = plane.settled(served, "RUNNING"), plane.settled(second, "RUNNING")
    old, begun = pids(before), time.monotonic()
    base_url = f"{plane.gateway.url}/v1"
    with Load(base_url, before["model"]["model_id"]) as load, Load(base_url, SECOND) as beside:
        known = set(plane.built())
        good = {"engine_kwargs": {"max_model_len": 1024}, "num_replicas": 1}
        assert plane.alice.patch(f"{MODELS}/{served}", good).status_code == 200
        eventually(lambda: not known.issuperset(plane.built()))
        plane.crash_and_return()
        bad = {"engine_kwargs": {"max_model_len": 1 << 30}}
        assert plane.alice.patch(f"{MODELS}/{second}", bad).status_code == 200
        after, failed = plane.settled(served, "RUNNING"), plane.settled(second, "FAILED")
        eventually(lambda: len(plane.applications()) == 2)
    sys.stdout.write(f"two changes in {time.monotonic() - begun:.0f} s: {load.figures()}; {beside.figures()}\n")
    assert load.good_s and not load.failed, load.failed
    assert beside.good_s and not beside.failed, beside.failed
    assert after["model"]["generation"] == 3 and after["model"]["model_id"] == before["model"]["model_id"]
    assert after["serve_status"]["app_name"] != before["serve_status"]["app_name"]
    assert not old & pids(after), "it was built beside"
    eventually(lambda: not any(lives(pid) for pid in old))
    _rolled_back(plane, second, failed, other)


def _rolled_back(plane: ServingPlane, key: str, failed: dict[str, Any], before: dict[str, Any]) -> None:
    assert "max_model_len" in failed["model"]["error_summary"], failed["model"]["error_summary"]
    conditions = {one["type"]: one for one in failed["model"]["conditions"]}
    assert conditions["Ready"]["status"] == "True" and conditions["Ready"]["reason"] == "RolledBack"
    assert plane.endpoint(key)[0].endswith(f"/{before['serve_status']['app_name']}/v1")
    assert plane.alice.patch(f"{MODELS}/{key}", {"engine_kwargs": {"max_model_len": None}}).status_code == 200
    again = plane.settled(key, "RUNNING")
    assert pids(again) == pids(before), "the build that serves is the one that is wanted once more"


def test_one_goes_and_the_other_does_not_notice(plane: ServingPlane, served: str, second: str) -> None:
    stays, goes = (pids(plane.alice.detail(key)) for key in (served, second))
    with Load(f"{plane.gateway.url}/v1", FIRST) as load:
        _delete(plane, second)
        eventually(lambda: not any(lives(pid) for pid in goes))
    assert load.good_s and not load.failed, load.failed
    assert pids(plane.alice.detail(served)) == stays
    body = {"model": SECOND, "messages": ASK, "max_tokens": 4}
    eventually(lambda: plane.gateway.post("/v1/chat/completions", body).status_code == 404)


def test_when_ray_dies_all_of_it_comes_back(plane: ServingPlane, served: str) -> None:
    record = plane.record()
    before = pids(plane.alice.detail(served))
    os.kill(record["pid"], signal.SIGKILL)
    begun = time.monotonic()
    eventually(lambda: plane.record()["cluster_id"] != record["cluster_id"])
    assert not any(lives(pid) for pid in before), "nothing of the old cluster is left when the next one starts"

    def serves() -> bool:
        detail = plane.alice.detail(served)
        now = pids(detail)
        return detail["serve_status"]["app_status"] == "RUNNING" and bool(now) and not before & now

    eventually(serves)
    model = plane.settled(served, "RUNNING")["model"]
    sys.stdout.write(f"all of it is back after {time.monotonic() - begun:.0f} s\n")
    assert model["generation"] == 3

    def answers() -> bool:
        body = {"model": model["model_id"], "messages": ASK, "max_tokens": 4}
        return plane.gateway.post("/v1/chat/completions", body).status_code == 200

    eventually(answers)


def test_a_deleted_model_is_gone(plane: ServingPlane, served: str) -> None:
    before = pids(plane.alice.detail(served))
    _delete(plane, served)
    assert plane.applications() == []
    eventually(lambda: not any(lives(pid) for pid in before))


def _delete(plane: ServingPlane, key: str) -> None:
    assert plane.alice.delete(f"{MODELS}/{key}").json()["state"] == "DELETING"
    eventually(lambda: plane.alice.detail(key)["model"]["state"] == "DELETED")


def _ask(base_url: str, model: str, **more: Any) -> Any:
    body = {"model": model, "messages": ASK, "max_tokens": 16, "temperature": 0, **more}
    reply = requests.post(f"{base_url}/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def _streamed(url: str, body: dict[str, Any]) -> list[Any]:
    """The chunks of a stream, with token ids."""
    with requests.post(url, json={**body, "stream": True, "return_token_ids": True}, stream=True, timeout=60) as reply:
        assert reply.status_code == 200, reply.text
        data = [line[6:] for line in reply.iter_lines() if line.startswith(b"data: ")]
    assert data[-1] == b"[DONE]"
    return [json.loads(one) for one in data[:-1]]


def _ids(chunks: list[Any]) -> list[int]:
    """All that was sampled."""
    return [token for chunk in chunks for choice in chunk["choices"] for token in choice.get("token_ids") or ()]
