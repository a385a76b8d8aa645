"""Declared models over HTTP, with the memory backend: what is promised of each route, and of repeated requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.contract.gateway_process import wait_until
from tests.contract.serving_process import MODELS, Caller, ServingProcess, running_api

KEY = re.compile(r"svc-[a-z][a-z0-9_-]*-[0-9]{8}-[0-9]{6}-[a-z0-9]{4,}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
FLAGS = ("--public-host", "models.example", "--inference-port", "8123")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with running_api(tmp_path_factory.mktemp("serving"), *FLAGS) as running:
        yield running


@pytest.fixture
def user(api: ServingProcess, request: pytest.FixtureRequest) -> Caller:
    """A user that no other test has."""
    name = re.sub(r"[^a-z0-9]", "", request.node.name.lower())[-20:]
    return api.user(f"u{name}")


def test_a_model_is_declared_served_and_deleted(user: Caller) -> None:
    reply = user.post(MODELS, b"model_id: q-0.5b\nmodel_source: $HOME/common/hf/m\nnum_replicas: 2\n")
    assert (reply.status_code, set(reply.json())) == (202, {"model_key", "state"})
    assert reply.json()["state"] == "QUEUED"
    key = reply.json()["model_key"]
    assert KEY.fullmatch(key)
    found = user.settled(key, "RUNNING")
    assert {"model", "resolved_spec_yaml", "events", "serve_status"} <= set(found)
    model = found["model"]
    minute = re.sub("[^0-9]", "", model["created_at"])[:12]
    name = model["user_id"]
    assert model["model_id"] == f"{name}-{minute}-q-0.5b"
    assert (model["model_id_prefix"], model["model_id_suffix"]) == (f"{name}-{minute}", "q-0.5b")
    assert (model["model_alias"], model["total_gpus"], model["error_summary"]) == (f"{name}/q-0.5b", 2, None)
    assert model["endpoint"] == {"openai_base_url": "http://models.example:8123/v1", "model": model["model_id"]}
    assert model["model_source"].endswith("/private/hf/m")
    assert all(TIME.fullmatch(model[field]) for field in ("created_at", "updated_at"))
    spec = yaml.safe_load(found["resolved_spec_yaml"])
    assert (spec["model_id"], spec["model_source"], spec["gpus_per_replica"]) == ("q-0.5b", model["model_source"], 1)
    assert found["events"][0]["event_type"] == "DEPLOY_REQUESTED"
    assert all(isinstance(event["payload"], dict) for event in found["events"])
    wait_until(lambda: user.detail(key)["serve_status"].get("app_status") == "RUNNING")
    gone = user.delete(f"{MODELS}/{key}")
    assert (gone.status_code, gone.json()) == (200, {"model_key": key, "state": "DELETING"})
    assert user.delete(f"{MODELS}/{key}").status_code == 200
    user.settled(key, "DELETED")
    assert user.get(MODELS).json()["items"] == []
    assert user.delete(f"{MODELS}/{key}").json()["state"] == "DELETED"
    assert user.declare("q-0.5b") != key


def test_a_model_that_fails_says_why(user: Caller) -> None:
    key = user.declare("memfail-x")
    model = user.settled(key, "FAILED")["model"]
    assert model["error_summary"]
    logs = f"{MODELS}/{key}/logs"
    wait_until(lambda: user.get(logs).json()["failed_at"] is not None)  # as soon as its build is taken away
    told = user.get(logs).json()
    assert told["lines"][0].endswith(f"started {model['model_id']}")
    assert "FAILED: a model of the memory backend" in told["lines"][-1]
    assert user.get(f"{logs}?lines=1").json()["lines"] == told["lines"][-1:]
    assert user.patch(f"{MODELS}/{key}", {"num_replicas": 2}).json() == {"model_key": key, "state": "QUEUED"}


def test_an_upsert_keeps_the_model(user: Caller) -> None:
    key = user.declare("m", num_replicas=2)
    first = user.detail(key)["model"]
    assert user.declare("m", num_replicas=2) == key
    assert user.detail(key)["model"]["generation"] == 1
    reply = user.post(MODELS, {"model_id": "m", "model_source": "$HOME/common/hf/m"})
    assert reply.json() == {"model_key": key, "state": "QUEUED"}
    now = user.detail(key)["model"]
    assert (now["generation"], now["num_replicas"]) == (2, 1)
    assert (now["model_id"], now["created_at"]) == (first["model_id"], first["created_at"])


def test_first_posts_at_once_make_one_model(user: Caller) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: Caller(user.url, user.token).declare("m"), range(16)))
    assert len(keys) == 1
    assert user.detail(keys.pop())["model"]["generation"] == 1


def test_two_users_may_use_one_suffix(api: ServingProcess, user: Caller) -> None:
    other = api.user("other")
    assert user.declare("m") != other.declare("m")
    assert len(other.get(MODELS).json()["items"]) == 1


def test_a_patch_merges(user: Caller) -> None:
    key = user.declare("m", engine_kwargs={"max_model_len": 512, "gpu_memory_utilization": 0.5})
    path = f"{MODELS}/{key}"
    reply = user.patch(path, {"engine_kwargs": {"max_model_len": None, "gpu_memory_utilization": 0.7}})
    assert (reply.status_code, reply.json()) == (200, {"model_key": key, "state": "QUEUED"})
    now = user.settled(key, "RUNNING")["model"]
    assert (now["engine_kwargs"], now["generation"]) == ({"gpu_memory_utilization": 0.7}, 2)
    same = user.patch(path, {"num_replicas": 1})
    assert (same.status_code, same.json()["state"]) == (200, "RUNNING")
    assert user.detail(key)["model"]["generation"] == 2
    merge = user.patch(path, b'{"ttl_s": 3600}', headers={"Content-Type": "application/merge-patch+json"})
    assert (merge.status_code, user.detail(key)["model"]["ttl_s"]) == (200, 3600)


def test_patches_at_once_are_all_kept(user: Caller) -> None:
    key = user.declare("m")
    changes: list[dict[str, Any]] = [
        {"num_replicas": 3},
        {"ttl_s": 3600},
        {"engine_kwargs": {"max_model_len": 512}},
        {"engine_kwargs": {"gpu_memory_utilization": 0.5}},
        {"autoscaling": {"min_replicas": 1, "max_replicas": 4}},
    ]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda one: Caller(user.url, user.token).patch(f"{MODELS}/{key}", one), changes))
    assert [one.status_code for one in statuses] == [200] * len(changes)
    now = user.detail(key)["model"]
    assert (now["num_replicas"], now["ttl_s"], now["generation"]) == (3, 3600, 1 + len(changes))
    assert now["engine_kwargs"] == {"max_model_len": 512, "gpu_memory_utilization": 0.5}


def test_an_etag_changes_with_the_spec_alone(user: Caller) -> None:
    key = user.declare("m")
    path = f"{MODELS}/{key}"
    etag = user.get(path).headers["ETag"]
    user.settled(key, "RUNNING")
    assert user.get(path).headers["ETag"] == etag
    done = user.patch(path, {"num_replicas": 2}, headers={"If-Match": etag})
    assert done.status_code == 200
    assert done.headers["ETag"] == user.get(path).headers["ETag"] != etag
    assert user.patch(path, {"num_replicas": 3}, headers={"If-Match": etag}).status_code == 412
    assert user.delete(path, headers={"If-Match": etag}).status_code == 412
    now = done.headers["ETag"]
    for none in (f"W/{now}", now.strip('"'), f"{now}x", f"x{now}", f'"{now}"', "", '""', f'W/"other", x{now}'):
        reply = user.patch(path, {"num_replicas": 3}, headers={"If-Match": none})
        assert (reply.status_code, none) == (412, none)
    assert user.patch(path, {"num_replicas": 3}, headers={"If-Match": f'"other", {now}'}).ok
    assert user.delete(path, headers={"If-Match": "*"}).ok


def test_of_changes_at_once_with_one_etag_one_is_made(user: Caller) -> None:
    key = user.declare("m")
    etag = user.get(f"{MODELS}/{key}").headers["ETag"]

    def change(replicas: int) -> int:
        body, headers = {"num_replicas": replicas}, {"If-Match": etag}
        return Caller(user.url, user.token).patch(f"{MODELS}/{key}", body, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(change, range(2, 10)))
    assert statuses == [200, *[412] * 7]


def test_a_repeated_request_is_answered_again(api: ServingProcess, user: Caller) -> None:
    body = {"model_id": "m", "model_source": "$HOME/common/hf/m"}
    headers = {"Idempotency-Key": "one"}
    first = user.post(MODELS, body, headers=headers)
    key = first.json()["model_key"]
    user.settled(key, "RUNNING")
    user.patch(f"{MODELS}/{key}", {"num_replicas": 2})
    again = user.post(MODELS, body, headers=headers)
    assert (again.status_code, again.content) == (202, first.content)
    assert user.detail(key)["model"]["num_replicas"] == 2
    other = user.post(MODELS, {**body, "num_replicas": 4}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    dry = user.post(f"{MODELS}?dryRun=1", {**body, "num_replicas": 4}, headers=headers)
    assert (dry.status_code, dry.json()["code"]) == (422, "idempotency_key_reused")
    neighbour = api.user("neighbour").post(MODELS, {**body, "num_replicas": 4}, headers=headers)
    assert neighbour.status_code == 202
    wrong = user.post(MODELS, {**body, "num_replicas": 0}, headers={"Idempotency-Key": "two"})
    assert wrong.status_code == 422
    assert user.post(MODELS, body, headers={"Idempotency-Key": "two"}).status_code == 202


def test_repeated_requests_at_once_have_one_effect(user: Caller) -> None:
    body, headers = {"model_id": "m", "model_source": "$HOME/common/hf/m"}, {"Idempotency-Key": "k"}
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: Caller(user.url, user.token).post(MODELS, body, headers=headers), range(16)))
    assert {(one.status_code, one.content) for one in replies} == {(202, replies[0].content)}


def test_a_dry_run_tells_and_stores_nothing(user: Caller) -> None:
    body = {"model_id": "m", "model_source": "$HOME/common/hf/m"}
    dry = user.post(f"{MODELS}?dryRun=true", body)
    assert (dry.status_code, dry.json()["created"], dry.json()["model_key"]) == (200, True, None)
    assert [one["action"] for one in dry.json()["plan"]] == ["start"]
    assert user.get(MODELS).json()["items"] == []
    assert user.post(f"{MODELS}?dryRun=true", {**body, "num_replicas": 0}).status_code == 422
    key = user.declare("m")
    same = user.post(f"{MODELS}?dryRun=1", body).json()
    assert (same["changed"], same["diff"], same["plan"]) == (False, [], [])
    scaled = user.post(f"{MODELS}?dryRun=1", {**body, "num_replicas": 3}).json()
    assert scaled["diff"] == [{"pointer": "/num_replicas", "from": 1, "to": 3}]
    assert [one["action"] for one in scaled["plan"]] == ["scale"]
    user.settled(key, "RUNNING")
    rebuilt = user.patch(f"{MODELS}/{key}?dryRun=1", {"engine_kwargs": {"max_model_len": 512}}).json()
    assert rebuilt["diff"] == [{"pointer": "/engine_kwargs/max_model_len", "to": 512}]
    assert [one["action"] for one in rebuilt["plan"]] == ["start", "move_requests", "drain_and_remove"]
    assert user.detail(key)["model"]["generation"] == 1


def test_a_list_has_pages(user: Caller) -> None:
    keys = [user.declare(f"m{number}") for number in range(7)]
    found: list[str] = []
    token: str | None = None
    while True:
        query = f"?limit=3{f'&page_token={token}' if token else ''}"
        page = user.get(MODELS + query).json()
        assert page["openai_base_url"] == "http://models.example:8123/v1"
        found += [one["model_key"] for one in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert found == keys
    for key in keys:
        user.settled(key, "RUNNING")
    assert len(user.get(f"{MODELS}?state=RUNNING").json()["items"]) == 7
    assert user.get(f"{MODELS}?state=QUEUED").json()["items"] == []
    assert user.get(f"{MODELS}?limit=1000&unheard=of").status_code == 200


def test_a_model_goes_back(user: Caller) -> None:
    key = user.declare("m", engine_kwargs={"max_model_len": 512})
    user.settled(key, "RUNNING")
    user.patch(f"{MODELS}/{key}", {"engine_kwargs": {"max_model_len": 1024}})
    user.settled(key, "RUNNING")
    listed = user.get(f"{MODELS}/{key}/revisions").json()["items"]
    assert [(one["generation"], one["is_current"], one["is_serving"]) for one in listed] == [
        (1, False, False),
        (2, True, True),
    ]
    dry = user.post(f"{MODELS}/{key}/rollback?dryRun=1", {"generation": 1})
    assert (dry.status_code, dry.json()["generation"]) == (200, 3)
    back = user.post(f"{MODELS}/{key}/rollback", {"generation": 1})
    assert (back.status_code, back.json()) == (202, {"model_key": key, "state": "QUEUED"})
    now = user.settled(key, "RUNNING")
    assert (now["model"]["generation"], now["model"]["engine_kwargs"]) == (3, {"max_model_len": 512})
    assert "ROLLBACK_REQUESTED" in [one["event_type"] for one in now["events"]]


def test_events_have_pages_and_outlive_the_model(user: Caller) -> None:
    key = user.declare("m")
    user.settled(key, "RUNNING")
    user.delete(f"{MODELS}/{key}")
    every = user.settled(key, "DELETED")["events"]
    found: list[dict[str, Any]] = []
    token = ""
    while token is not None:
        page = user.get(f"{MODELS}/{key}/events?limit=1{f'&page_token={token}' if token else ''}").json()
        found += page["items"]
        token = page["next_page_token"]
    assert found == every
    assert len(found) >= 2


def test_logs_are_of_a_revision(user: Caller) -> None:
    key = user.declare("m")
    user.settled(key, "RUNNING")
    told = user.get(f"{MODELS}/{key}/logs?lines=5").json()
    assert told["app_name"].startswith(key)
    assert told["lines"]
    assert user.get(f"{MODELS}/{key}/logs?generation=1").json() == user.get(f"{MODELS}/{key}/logs").json()


def test_tokens_come_and_go(api: ServingProcess, user: Caller) -> None:
    name = user.detail(user.declare("m"))["model"]["user_id"]
    made = api.admin.post(f"/api/v2/users/{name}/tokens").json()
    assert set(made) == {"user_id", "token_id", "token", "created_at"}
    second = Caller(user.url, made["token"])
    assert second.get(MODELS).status_code == 200
    lower = {"Authorization": f"bEaReR {made['token']}"}
    assert Caller(user.url, None).get(MODELS, headers=lower).status_code == 200
    listed = api.admin.get(f"/api/v2/users/{name}/tokens").json()["items"]
    assert [set(one) for one in listed] == [{"token_id", "created_at"}] * 2
    assert api.admin.delete(f"/api/v2/users/{name}/tokens/{made['token_id']}").status_code == 204
    assert second.get(MODELS).status_code == 401
    assert user.get(MODELS).status_code == 200
    assert api.admin.delete(f"/api/v2/users/{name}/tokens/{made['token_id']}").status_code == 404
    users = api.admin.get("/api/v2/users?limit=1000").json()["items"]
    assert name in [one["user_id"] for one in users]


def test_a_token_is_shown_in_one_header_and_whole(api: ServingProcess, user: Caller) -> None:
    nobody, token = Caller(user.url, None), user.token
    for header in (f"Bearer {token}x", f"Bearer {token} x", f"Basic {token}", "Bearer", "Bearer ", str(token), ""):
        assert nobody.get(MODELS, headers={"Authorization": header}).status_code == 401, header
    assert nobody.get(MODELS, headers={"Authorization": f"Bearer {'a' * 5000}"}).status_code == 401


def test_administrators_see_how_it_is(api: ServingProcess, user: Caller) -> None:
    key = user.declare("m")
    user.settled(key, "RUNNING")
    status = api.admin.get("/api/v2/serve/status").json()
    assert (status["backend"]["name"], status["backend"]["reachable"]) == ("memory", True)
    assert status["models"]["RUNNING"] >= 1
    assert any(one["app_name"].startswith(key) for one in status["applications"])
    assert api.admin.get(MODELS).json()["items"] == []


def test_health_needs_no_token(api: ServingProcess) -> None:
    reply = api.nobody.get("/health")
    assert (reply.status_code, reply.json()["status"]) == (200, "ok")


@pytest.mark.parametrize("path", ["/health", MODELS, "/docs", "/openapi.json", f"{MODELS}?watch=1"])
def test_a_head_is_a_get_without_its_body(user: Caller, path: str) -> None:
    reply = user.ask("HEAD", path)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["Content-Type"]
