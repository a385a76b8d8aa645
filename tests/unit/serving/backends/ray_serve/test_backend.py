"""The backend before a dashboard that does what a real one only does when it is ill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from moorage.errors import FailedError, NotFoundError
from moorage.serving.backends.contract import AppState, BackendUnreachable
from moorage.serving.backends.ray_serve.backend import PATIENCE_S, RayServeBackend, Reached
from moorage.serving.backends.ray_serve.rest import RayRest
from moorage.serving.model import FailureLog
from moorage.serving.reconciling.failing import with_logs
from tests.contract.platform_contract import free_port
from tests.contract.serving_store_parts import NOW, change
from tests.unit.serving.backends.ray_serve.cluster_details import CPU, application, details, foreign, wanted
from tests.unit.serving.backends.ray_serve.rest_double import Dashboard, dashboard
from tests.unit.serving.reconcile.double_store import DoubleStore
from tests.unit.serving.reconcile.world import World

ONE = wanted()


class Bench:
    """A backend over a double, with a clock to set."""

    def __init__(self, ray: Dashboard, **reached: Any) -> None:
        self.ray = ray
        self.now = 0.0
        rest = RayRest(ray.url, lambda: "secret-token")
        platform = replace(CPU, proxy_url=ray.url)
        self.backend = RayServeBackend(platform, lambda: Reached(rest, **reached), rest.close, lambda: self.now)

    def runs(self, *applications: dict[str, Any], **more: Any) -> None:
        self.ray.details = details(*applications, **more)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with dashboard(details(proxy=None)) as ray:
        made = Bench(ray)
        yield made
        made.backend.close()


def test_an_application_runs_when_its_route_answers(bench: Bench) -> None:
    """Ray's proxy learns of a new application a moment after Ray calls it running."""
    bench.runs(application(ONE))
    assert bench.backend.observe()[ONE.app].state is AppState.DEPLOYING
    bench.ray.open_routes.add(f"/ours/{ONE.app}/v1/models")
    assert bench.backend.observe()[ONE.app].state is AppState.RUNNING
    bench.ray.probes.clear()
    assert bench.backend.observe()[ONE.app].state is AppState.RUNNING
    assert bench.ray.probes == [], "it is asked until it has answered, and not for ever"
    bench.runs(application(ONE, states=("STARTING",), status="UNHEALTHY"))
    assert bench.backend.observe()[ONE.app].state is AppState.DEGRADED
    bench.runs(application(ONE))
    bench.ray.open_routes.clear()
    assert bench.backend.observe()[ONE.app].state is AppState.DEPLOYING, "after a while without it, it must answer anew"


def test_rays_token_is_shown_to_ray_and_not_to_what_it_serves(bench: Bench) -> None:
    bench.runs(application(ONE))
    bench.backend.observe()
    assert set(bench.ray.tokens) == {"Bearer secret-token"} and bench.ray.probes


def test_what_is_there_already_is_not_told_again(bench: Bench) -> None:
    bench.runs(application(ONE), foreign("theirs"))
    bench.backend.apply([ONE])
    assert bench.ray.told == []
    bench.backend.apply([])
    (body,) = bench.ray.told
    assert [one["name"] for one in body["applications"]] == ["theirs"]


def test_a_cluster_of_our_own_has_its_proxy_where_its_record_says() -> None:
    with dashboard(details(proxy=None)) as ray:
        Bench(ray, proxy_port=4321).backend.apply([ONE])
        assert ray.told[0]["http_options"] == {"host": "127.0.0.1", "port": 4321}


def test_what_ray_refuses_is_told_and_nothing_was_changed(bench: Bench) -> None:
    bench.ray.refusal = (400, "x" * 5000 + " 1 validation error")
    with pytest.raises(FailedError, match="validation error") as said:
        bench.backend.apply([ONE])
    assert said.value.code == "ray_refused" and len(said.value.message) < 1200
    assert not isinstance(said.value, BackendUnreachable)


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (500, "Traceback", "answered 500"),
        (503, "The GCS may be down", "GCS"),
        (401, "Unauthorized", "token"),
        (403, "Forbidden", "token"),
        (404, "", "answered 404"),
        (302, "", "answered 302"),
        (200, "<html>", "no JSON"),
        (200, "[]", "something else"),
        (200, '{"applications": []}', "something else"),
    ],
)
def test_what_ray_cannot_say_is_not_known(bench: Bench, status: int, text: str, words: str) -> None:
    bench.ray.spoiled = (status, text)
    for ask in (bench.backend.observe, bench.backend.summary, lambda: bench.backend.apply([ONE])):
        with pytest.raises(BackendUnreachable, match=words) as said:
            ask()
        assert "secret-token" not in f"{said.value.message} {said.value.hint} {said.value.data}"
    assert bench.ray.told == []


def test_a_put_that_fails_on_rays_side_may_have_been_heard(bench: Bench) -> None:
    bench.ray.refusal = (500, "boom")
    with pytest.raises(BackendUnreachable, match="answered 500: boom"):
        bench.backend.apply([ONE])


def test_nobody_there() -> None:
    rest = RayRest(f"http://127.0.0.1:{free_port()}")
    backend = RayServeBackend(CPU, lambda: Reached(rest))
    with pytest.raises(BackendUnreachable, match="does not answer"):
        backend.observe()
    assert backend.digest(ONE)


def test_changes_without_end_do_not_keep_a_model_from_being_built(bench: Bench) -> None:
    """Ray begins anew with what it is building whenever it is given a list."""
    two = wanted("b", key="svc-bob-20260106-123000-abcdef")
    building = application(ONE, status="DEPLOYING", deployments={})
    bench.backend.apply([ONE])
    bench.runs(building)
    bench.now = PATIENCE_S - 1
    with pytest.raises(BackendUnreachable, match=ONE.app):
        bench.backend.apply([ONE, two])
    bench.backend.apply([ONE])
    assert len(bench.ray.told) == 1
    bench.runs(application(ONE, status="DEPLOYING", states=("STARTING",)))
    bench.backend.apply([ONE, two])
    assert len(bench.ray.told) == 2, "what was built is not begun anew"


def test_nobody_waits_for_ever_for_a_build_nor_for_one_that_goes(bench: Bench) -> None:
    bench.backend.apply([ONE])
    bench.runs(application(ONE, status="DEPLOYING", deployments={}))
    bench.backend.apply([])
    assert len(bench.ray.told) == 2
    bench.now = PATIENCE_S + 1
    bench.backend.apply([replace(ONE, spec=replace(ONE.spec, num_replicas=2))])
    assert len(bench.ray.told) == 3


def test_logs_are_the_replicas_own_in_the_order_of_their_times(bench: Bench) -> None:
    bench.runs(application(ONE, states=("RUNNING", "STARTING")))
    bench.ray.files = {
        "serve/replica_0.log": ["INFO 2026-11-21 10:00:01,5 Started", "INFO 2026-11-21 10:00:09,0 Serves"],
        "worker-w0-1.out": [":actor_name:x", "(EngineCore) INFO 11-21 10:00:05 loads", "  more of it", ""],
        "worker-w0-1.err": ["W1121 10:00:07.5 5413 torch", "no time at all"],
        "worker-w1-1.out": ["somebody else's"],
    }
    lines = list(bench.backend.logs(ONE.app, 4))
    assert lines == [
        "r0:   more of it",
        "r0: W1121 10:00:07.5 5413 torch",
        "r0: no time at all",
        "r0: INFO 2026-11-21 10:00:09,0 Serves",
    ]
    assert list(bench.backend.logs(ONE.app, 0)) == []


def test_a_failed_application_shows_what_died(bench: Bench) -> None:
    one = application(ONE, status="DEPLOY_FAILED", states=())
    (model,) = [part for name, part in one["deployments"].items() if name.startswith("LLMServer:")]
    model["recent_dead_replicas"] = [{"replica_id": "dead", "node_id": "n", "worker_id": "w9", "state": "STOPPED"}]
    bench.runs(one)
    bench.ray.files = {"worker-w9-1.err": ["ValueError: no"]}
    assert list(bench.backend.logs(ONE.app, 5)) == ["dead: ValueError: no"]
    failed = change(World(DoubleStore()).declare())
    apps = {failed.model_key: ONE.app}
    (made,) = with_logs([failed], apps, bench.backend.logs, NOW, before_each=lambda: None)
    assert made.failure_log == FailureLog(app=ONE.app, failed_at=NOW, lines=("dead: ValueError: no",))
    bench.ray.spoiled = (500, "ill")
    assert with_logs([failed], apps, bench.backend.logs, NOW, before_each=lambda: None) == [failed]


def test_nobody_elses_logs_are_shown(bench: Bench) -> None:
    bench.runs(foreign("theirs"))
    for app in ("theirs", ONE.app):
        with pytest.raises(NotFoundError):
            list(bench.backend.logs(app, 5))


def test_the_summary_says_whose_is_whose(bench: Bench) -> None:
    bench.runs(application(ONE), foreign("theirs"))
    told = json.loads(json.dumps(bench.backend.summary()))
    assert {name: one["ours"] for name, one in told["applications"].items()} == {ONE.app: True, "theirs": False}
    assert told["ray_version"] == "2.60.0" and told["proxy"] == "HEALTHY" and "value" not in json.dumps(told)
