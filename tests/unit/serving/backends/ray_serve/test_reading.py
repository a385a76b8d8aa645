"""What Ray says, as the control plane sees it: what answers counts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from moorage.serving.backends.contract import AppState, Seen
from moorage.serving.backends.ray_serve.reading import MESSAGE_CHARACTERS, base_url_of, candidates, proxy_trouble, read
from moorage.serving.backends.ray_serve.rendering import digest_of, render
from moorage.serving.reasons import Reason
from tests.unit.serving.backends.ray_serve.cluster_details import CPU, application, details, foreign, wanted

ONE = wanted(num_replicas=2)
NO_ROOM = 'Deployment has 1 replicas that have taken more than 30s to be scheduled. Resources required: {"CPU": 1.0}'


def seen(answering: bool = True, proxy: str | None = "HEALTHY", **told: Any) -> Seen:
    found = read(details(application(ONE, **told), proxy=proxy), CPU, "ray.example", {ONE.app} if answering else set())
    json.dumps(dict(found[ONE.app].details))
    return found[ONE.app]


BOTH = ("RUNNING", "RUNNING")


@pytest.mark.parametrize(
    ("told", "state", "reason", "ready"),
    [
        ({"states": BOTH}, AppState.RUNNING, Reason.SERVING, 2),
        ({"states": BOTH, "status": "DEPLOYING"}, AppState.RUNNING, Reason.SERVING, 2),
        ({"states": ("RUNNING", "STARTING"), "status": "DEPLOYING"}, AppState.RUNNING, Reason.STARTING, 1),
        (
            {"states": ("RUNNING", "STARTING"), "status": "DEPLOYING", "deployment_message": NO_ROOM},
            AppState.RUNNING,
            Reason.NO_CAPACITY,
            1,
        ),
        ({"states": ("RUNNING",), "status": "DEPLOY_FAILED"}, AppState.RUNNING, Reason.DEGRADED, 1),
        ({"states": ("RUNNING",), "status": "UNHEALTHY"}, AppState.RUNNING, Reason.DEGRADED, 1),
        ({"states": ("STARTING",), "status": "DEPLOYING"}, AppState.DEPLOYING, Reason.STARTING, 0),
        ({"states": (), "status": "NOT_STARTED"}, AppState.DEPLOYING, Reason.STARTING, 0),
        (
            {"states": ("STARTING",), "status": "DEPLOYING", "deployment_message": NO_ROOM},
            AppState.DEPLOYING,
            Reason.NO_CAPACITY,
            0,
        ),
        ({"states": BOTH, "front": (), "status": "DEPLOYING"}, AppState.DEPLOYING, Reason.STARTING, 0),
        ({"states": BOTH, "answering": False}, AppState.DEPLOYING, Reason.STARTING, 0),
        ({"states": BOTH, "proxy": "UNHEALTHY"}, AppState.DEPLOYING, Reason.STARTING, 0),
        ({"states": (), "status": "DEPLOY_FAILED"}, AppState.FAILED, Reason.DEPLOY_FAILED, 0),
        ({"states": ("STARTING",), "status": "UNHEALTHY"}, AppState.DEGRADED, Reason.DEGRADED, 0),
        ({"states": BOTH, "status": "DELETING"}, AppState.REMOVING, Reason.DELETING, 0),
        ({"states": (), "status": "SOMETHING_NEW"}, AppState.DEPLOYING, Reason.STARTING, 0),
    ],
)
def test_every_state_of_rays(told: dict[str, Any], state: AppState, reason: Reason, ready: int) -> None:
    one = seen(**told)
    assert (one.state, one.reason, one.replicas_ready) == (state, reason, ready)
    assert bool(one.endpoints) == bool(ready)
    assert bool(one.message) == (reason not in (Reason.SERVING, Reason.DELETING))


def test_an_endpoint_is_the_route_behind_the_proxy() -> None:
    (endpoint,) = seen(states=BOTH).endpoints
    assert endpoint.base_url == f"http://ray.example:8123/ours/{ONE.app}/v1"
    assert endpoint.model == ONE.model_id


@pytest.mark.parametrize(
    ("options", "proxy_url", "url"),
    [
        ({"host": "0.0.0.0", "port": 8000}, None, "http://ray.example:8000/ours/a/v1"),
        ({"host": "10.0.0.7", "port": 8000}, None, "http://10.0.0.7:8000/ours/a/v1"),
        ({"host": "fd00::7", "port": 8000}, None, "http://[fd00::7]:8000/ours/a/v1"),
        ({"host": "0.0.0.0", "port": 8000, "root_path": "/serve"}, None, "http://ray.example:8000/serve/ours/a/v1"),
        ({"host": "0.0.0.0", "port": 8000}, "https://front/", "https://front/ours/a/v1"),
        ({}, None, "http://ray.example:8123/ours/a/v1"),
    ],
)
def test_the_proxy_is_where_ray_or_the_platform_says(options: dict[str, Any], proxy_url: str | None, url: str) -> None:
    assert base_url_of("a", {"http_options": options}, replace(CPU, proxy_url=proxy_url), "ray.example") == url


def test_only_ours_are_seen() -> None:
    found = read(details(application(ONE), foreign("theirs")), CPU, "h", {ONE.app, "theirs"})
    assert set(found) == {ONE.app}
    assert read(details(proxy=None), CPU, "h", set()) == {}


def test_only_what_may_answer_is_asked() -> None:
    assert candidates(details(application(ONE), foreign("theirs")), CPU) == {ONE.app}
    assert candidates(details(application(ONE), proxy="UNHEALTHY"), CPU) == set()
    assert candidates(details(application(ONE, status="DELETING")), CPU) == set()
    assert candidates(details(application(ONE, front=("STARTING",))), CPU) == set()


def test_the_digest_is_that_of_what_was_told() -> None:
    assert seen(states=BOTH).digest == digest_of(render(ONE, CPU), ONE.spec.build())
    assert seen(states=BOTH, status="DELETING").digest == ""


def test_a_proxy_that_works_on_no_node_is_told() -> None:
    assert proxy_trouble(details()) == ""
    assert "UNHEALTHY" in proxy_trouble(details(proxy="UNHEALTHY"))
    assert "no HTTP proxy" in proxy_trouble(details(proxy=None))
    assert "port is free" in seen(proxy="UNHEALTHY").message


def test_the_end_of_a_long_traceback_is_kept() -> None:
    text = "Deploying app failed\n" + "  File x\n" * 1000 + "ValueError: Unknown engine argument: bogus"
    message = seen(states=(), status="DEPLOY_FAILED", message=text).message
    assert len(message) <= MESSAGE_CHARACTERS
    assert message.startswith("Deploying app failed\n…\n") and message.endswith("Unknown engine argument: bogus")


def test_messages_of_deployments_are_told_once() -> None:
    assert seen(states=(), status="DEPLOY_FAILED", message="a: b", deployment_message="b").message == "a: b"
    assert seen(states=(), status="DEPLOY_FAILED", message="a", deployment_message="b").message == "a\nb"


def test_odd_replies_are_read_too() -> None:
    """A Ray that leaves out what it has not got, or has it as null."""
    bare = {"name": ONE.app, "route_prefix": f"/ours/{ONE.app}", "status": "DEPLOYING", "deployments": None}
    found = read({"applications": {ONE.app: bare}, "proxies": None, "http_options": None}, CPU, "h", set())
    assert found[ONE.app].state is AppState.DEPLOYING
