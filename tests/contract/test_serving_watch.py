"""Streams of the serving API, the gateway's long poll, and what becomes of both when the API ends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.contract.gateway_process import wait_until
from tests.contract.serving_process import MODELS, Caller, ServingProcess, running_api

ENDPOINTS = "/api/v2/serve/endpoints"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("serving")
    quotas = "{requests_per_minute: 5, models: 2, gpus: 6}"
    (folder / "config.yaml").write_text(f"auth: required\nserving: {{quotas: {quotas}}}\n")
    with running_api(folder, "--config", str(folder / "config.yaml")) as running:
        yield running


class Watch:
    """A stream that is read in a thread."""

    def __init__(self, caller: Caller, path: str = MODELS, after: str | None = None) -> None:
        headers = {"Last-Event-ID": after} if after is not None else {}
        self.reply = caller.http.get(f"{caller.url}{path}?watch=1", headers=headers, stream=True, timeout=60)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ids: list[str] = []
        self.has_ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def states(self, key: str) -> list[str]:
        """Of one model, as they were told."""
        return [data["model"]["state"] for _, data in self.events if data.get("model", {}).get("model_key") == key]

    def until(self, key: str, state: str) -> None:
        wait_until(lambda: state in self.states(key))

    def break_off(self) -> None:
        """As a network does."""
        with socket.fromfd(self.reply.raw.fileno(), socket.AF_INET, socket.SOCK_STREAM) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        assert self.has_ended.wait(60)

    def _read(self) -> None:
        name = ""
        with contextlib.suppress(requests.RequestException):
            for line in self.reply.iter_lines(chunk_size=1):
                word, _, value = line.decode().partition(": ")
                if word == "id":
                    self.ids.append(value)
                elif word == "event":
                    name = value
                elif word == "data":
                    data = json.loads(value)
                    assert data["type"] == name
                    self.events.append((name, data))
        self.has_ended.set()


def test_a_watch_tells_what_is_there_and_what_becomes_of_it(api: ServingProcess) -> None:
    user, other = api.user("watcher"), api.user("stranger")
    first = user.declare("a")
    user.settled(first, "RUNNING")
    watch = Watch(user)
    watch.until(first, "RUNNING")
    assert watch.reply.headers["Content-Type"].startswith("text/event-stream")
    second = user.declare("b")
    unseen = other.declare("c")
    watch.until(second, "RUNNING")
    user.delete(f"{MODELS}/{first}")
    watch.until(first, "DELETED")
    names = [name for name, _ in watch.events]
    assert names[:2] == ["ADDED", "BOOKMARK"]
    assert set(names) == {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}
    assert watch.states(unseen) == []
    assert [int(one) for one in watch.ids] == sorted({int(one) for one in watch.ids})


def test_a_watch_goes_on_where_it_ended(api: ServingProcess) -> None:
    user = api.user("goeson")
    first = user.declare("a")
    user.settled(first, "RUNNING")
    watch = Watch(user)
    wait_until(lambda: bool(watch.ids))
    watch.break_off()
    user.delete(f"{MODELS}/{first}")
    user.settled(first, "DELETED")
    second = user.declare("b")
    user.settled(second, "RUNNING")
    again = Watch(user, after=watch.ids[-1])
    again.until(second, "RUNNING")
    assert again.states(first) == ["DELETED"]
    assert again.states(second) == ["RUNNING"]
    from_nowhere = Watch(user, after="999999999999")
    from_nowhere.until(second, "RUNNING")
    assert from_nowhere.states(first) == []


def test_the_watch_of_one_model_ends_with_it(api: ServingProcess) -> None:
    user = api.user("ofone")
    key, other = user.declare("a"), user.declare("b")
    watch = Watch(user, f"{MODELS}/{key}")
    watch.until(key, "RUNNING")
    user.delete(f"{MODELS}/{key}")
    assert watch.has_ended.wait(60)
    assert watch.states(key)[-1] == "DELETED"
    assert watch.states(other) == []
    assert Watch(user, f"{MODELS}/{key}").has_ended.wait(60)
    again = Watch(user, f"{MODELS}/{key}", after=watch.ids[-1])
    assert again.has_ended.wait(10), "whoever goes on after the last word is told it once more"
    assert again.states(key) == ["DELETED"]


def test_a_revoked_token_watches_no_more(api: ServingProcess) -> None:
    user = api.user("revoked")
    watch = Watch(user)
    wait_until(lambda: bool(watch.events))
    [token] = api.admin.get("/api/v2/users/revoked/tokens").json()["items"]
    assert api.admin.delete(f"/api/v2/users/revoked/tokens/{token['token_id']}").status_code == 204
    assert watch.has_ended.wait(60)


def test_the_gateway_learns_where_requests_go(api: ServingProcess) -> None:
    user = api.user("routed")
    key = user.declare("m")
    user.settled(key, "RUNNING")
    reply = api.gateway.get(ENDPOINTS)
    told = reply.json()
    [model] = [one for one in told["models"] if one["model_key"] == key]
    assert (model["alias"], model["user_id"], model["state"]) == ("routed/m", "routed", "RUNNING")
    assert {"reason", "retry_after_s"} <= set(model)
    assert (model["ready"], model["endpoints"]) == (False, [])
    assert "no address" in model["message"], "it is RUNNING, and yet not ready"
    assert (told["auth"], told["limits"]["requests_per_minute"]) == ("required", 5)
    assert "routed" in [one["user_id"] for one in told["users"]]
    assert str(user.token) not in reply.text
    assert api.admin.get(ENDPOINTS).status_code == 200


def test_a_long_poll_is_answered_when_something_changes(api: ServingProcess) -> None:
    version = _calm(api)
    assert api.gateway.get(f"{ENDPOINTS}?version={version - 1}&wait_s=30").status_code == 200
    replies: list[requests.Response] = []
    caller = Caller(api.url, api.gateway_token)
    poll = threading.Thread(target=lambda: replies.append(caller.get(f"{ENDPOINTS}?version={version}&wait_s=30")))
    poll.start()
    user = api.user("latecomer")
    poll.join(25)
    assert not poll.is_alive()
    assert (replies[0].status_code, replies[0].json()["version"] > version) == (200, True)
    del user


def test_a_long_poll_ends_without_news(api: ServingProcess) -> None:
    version = _calm(api)
    reply = api.gateway.get(f"{ENDPOINTS}?version={version}&wait_s=1")
    assert (reply.status_code, reply.content) == (304, b"")
    assert api.gateway.get(f"{ENDPOINTS}?version={version}").status_code == 304


def test_a_user_has_so_many_models_and_gpus(api: ServingProcess) -> None:
    user = api.user("greedy")
    key = user.declare("a", num_replicas=4)
    spec = {"model_id": "b", "model_source": "$HOME/common/hf/m"}
    for path in (MODELS, f"{MODELS}?dryRun=1"):
        over = user.post(path, {**spec, "num_replicas": 3})
        assert (over.status_code, over.json()["code"]) == (422, "quota_exceeded")
    bounds = {"autoscaling": {"min_replicas": 1, "max_replicas": 7}}
    assert user.patch(f"{MODELS}/{key}", bounds).status_code == 422
    user.declare("b", num_replicas=2)
    assert user.post(MODELS, {**spec, "model_id": "c"}).status_code == 422
    assert user.patch(f"{MODELS}/{key}", {"num_replicas": 3}).status_code == 200


def test_what_was_declared_outlives_a_kill(tmp_path: Any) -> None:
    with running_api(tmp_path) as first:
        user = first.user("alice")
        key = user.declare("m")
        first.kill()
    with running_api(tmp_path) as second:
        again = Caller(second.url, user.token)
        assert again.detail(key)["model"]["generation"] == 1
        watch = Watch(again)
        wait_until(lambda: bool(watch.events))
        assert second.stop() == 0
        assert watch.has_ended.wait(60)


def _calm(api: ServingProcess) -> int:
    """The version, when the reconciler has nothing left to write."""
    found = [0, -1]

    def so() -> bool:
        busy = api.admin.get("/api/v2/serve/status").json()["unsettled"]
        found.append(int(api.gateway.get(ENDPOINTS).json()["version"]))
        return not busy and found[-1] == found[-2] == found[-3]

    wait_until(so)
    return found[-1]
