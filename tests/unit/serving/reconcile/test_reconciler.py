"""The reconciler's own work: its thread, its lease, its faults, and what it costs when there is nothing to do."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import FailedError
from moorage.serving.backends.contract import NO_ANSWER, AppState, BackendUnreachable, Seen, Wanted
from moorage.serving.backends.memory import MemoryBackend
from moorage.serving.log import Log
from moorage.serving.model import Model, State
from moorage.serving.plan.policy import Policy
from moorage.serving.reasons import CONDITIONS, Reason
from moorage.serving.reconciling.reconciler import TROUBLE_MAX_S, Reconciler
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.opening import open_store
from tests.unit.serving.reconcile.double_store import DoubleStore
from tests.unit.serving.reconcile.world import World

GENEROUS_S = 60.0


@pytest.fixture
def world() -> World:
    return World(DoubleStore())  # type: ignore[arg-type]


def logged(world: World) -> list[dict[str, Any]]:
    return [json.loads(line) for line in world.log.getvalue().splitlines()]


def wait_for(done: Callable[[], bool]) -> None:
    ends = time.monotonic() + GENEROUS_S
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_every_reason_of_the_catalogue_can_come_out(world: World) -> None:
    """Those of the plan by a story each; `NoCapacity` is a backend's word, and is passed on as it is."""
    cluster = world.cluster
    good, bad = world.declare("good"), world.declare("bad", engine_kwargs={"is": "fails"})
    late, mortal = world.declare("late", engine_kwargs={"is": "never"}), world.declare("mortal", ttl_s=300.0)
    world.settle()
    world.amend(good, engine_kwargs={"is": "fails"})
    world.settle()
    cluster.silence(next(name for name in cluster.apps if name.startswith(good.model_key)))
    world.run()
    world.amend(bad, engine_kwargs={"is": "good"})
    cluster.unreachable = True
    world.run()
    cluster.unreachable = False
    world.store.delete(late.model_key, world.now)
    world.settle()
    world.store.delete(good.model_key, world.now)
    world.run()
    world.tick(301)
    world.until(lambda: world.model(mortal).state is State.DELETED)
    gone = {condition.reason for condition in world.model(mortal).conditions}
    assert world.reasons | gone | {Reason.NO_CAPACITY} == set(Reason)


def test_an_hour_without_the_backend_loses_nothing(world: World) -> None:
    served = world.declare("served")
    world.settle()
    waiting = world.declare("waiting")
    world.run()
    world.cluster.unreachable = True
    going = world.declare("going")
    world.until(lambda: world.condition(waiting, "Ready")[1] == Reason.BACKEND_UNREACHABLE)
    world.store.delete(going.model_key, world.now)
    version, pauses = world.store.version(), []
    for _ in range(200):
        pauses.append(world.run())
        world.tick(pauses[-1])
    assert pauses[-1] == TROUBLE_MAX_S and sum(pauses) > 3600
    assert world.store.version() <= version + 1, "what was noted is not noted again"
    assert world.model(served).state is State.RUNNING and world.model(served).progress.endpoints
    assert world.condition(served, "Ready") == (True, Reason.SERVING)
    assert world.model(waiting).state is State.DEPLOYING and world.model(waiting).error_summary is None
    world.cluster.unreachable = False
    world.settle()
    assert world.model(waiting).state is State.RUNNING and world.model(going).state is State.DELETED
    assert [line["event"] for line in logged(world)] == ["backend_unreachable", "reconciler_goes_on"]


@pytest.mark.parametrize(
    ("when", "fault", "told"),
    [
        ("before observe", BackendUnreachable("it is at 10.0.0.9"), NO_ANSWER),
        ("before observe", RuntimeError("it is at 10.0.0.9"), NO_ANSWER),
        ("before apply", BackendUnreachable("10.0.0.9 builds svc-bob-1", told="it is busy"), "it is busy"),
    ],
)
def test_where_the_backend_is_and_what_else_it_runs_is_for_operators(
    world: World, when: str, fault: Exception, told: str
) -> None:
    """Models of all users wait for the one backend, and each is told of its faults."""
    waiting = world.declare("waiting")

    def break_down(_: str) -> None:
        raise fault

    world.run(interruption=(when, break_down))
    messages = {one.message for one in world.model(waiting).conditions if one.reason == Reason.BACKEND_UNREACHABLE}
    events = world.store.events(waiting.model_key, 100)
    assert messages == {told} == {one.payload["message"] for one in events if one.event_type == "BACKEND_UNREACHABLE"}
    assert "10.0.0.9" in world.log.getvalue()


def test_one_that_is_refused_stops_no_other(world: World) -> None:
    old = world.declare("old")
    world.settle()
    bad, good = world.declare("bad", engine_kwargs={"is": "refused"}), world.declare("good")
    world.amend(old, num_replicas=2)
    world.until(lambda: world.model(good).state is State.RUNNING and world.model(old).state is State.RUNNING)
    world.settle()
    assert world.model(bad).state is State.FAILED
    assert "is refused" in str(world.model(bad).error_summary)
    assert world.condition(bad, "Ready") == (False, Reason.NEVER_SERVED)
    assert world.cluster.started == 2


def test_a_change_that_is_refused_leaves_what_it_should_change(world: World) -> None:
    model, other = world.declare(), world.declare("other")
    world.settle()
    name = next(name for name in world.cluster.apps if name.startswith(model.model_key))
    world.cluster.refuses.add(model.model_key)
    before = world.cluster.apps[name].digest
    world.amend(model, num_replicas=2)
    world.run()
    assert world.cluster.apps[name].digest == before and world.cluster.apps[name].state is AppState.RUNNING
    assert world.condition(model, "Ready") == (True, Reason.SERVING)
    world.store.delete(other.model_key, world.now)
    world.run()
    assert world.cluster.apps[name].state is AppState.RUNNING
    world.cluster.refuses.clear()
    world.settle()
    assert world.cluster.apps[name].wanted.spec.num_replicas == 2


def test_a_backend_with_a_fault_of_its_own_stops_nobody_else(world: World) -> None:
    """A `digest` or `apply` that raises what nobody expects is a refusal of that application."""
    digest = world.cluster.digest

    def broken(wanted: Wanted) -> str:
        if wanted.spec.model_id == "bad":
            raise ValueError("what is this?")
        return digest(wanted)

    world.cluster.digest = broken  # type: ignore[method-assign]
    bad, good = world.declare("bad"), world.declare("good")
    world.until(lambda: world.model(good).state is State.RUNNING and world.model(bad).state is State.FAILED)
    assert "ValueError: what is this?" in str(world.model(bad).error_summary)


def test_faults_of_the_store_are_survived_and_said_once(world: World) -> None:
    world.declare()

    def broken(call: str) -> None:
        raise FailedError("the disk is gone", code="store_failed")

    pauses = [world.run(0, (call, broken)) for call in ("before take_lease", "before take_lease", "before take_lease")]
    assert pauses == sorted(pauses) and len(set(pauses)) == 3
    world.settle()
    assert [line["event"] for line in logged(world)] == ["store_failed", "reconciler_goes_on"]


def test_nothing_is_written_when_nothing_changed(world: World) -> None:
    world.declare()
    world.settle()
    version, asked = world.store.version(), world.cluster.asked
    calls: set[str] = set()
    for _ in range(60):
        world.tick(world.run())
        calls |= set(world.calls)
    assert (world.store.version(), world.cluster.asked) == (version, asked)
    assert "before record" not in calls and "before changed_since" not in calls


def test_the_second_acts_when_the_first_is_gone(world: World) -> None:
    model = world.declare()
    world.run(0)
    for _ in range(20):
        assert world.run(1) > 0 and world.calls == ["before take_lease", "after take_lease"]
    world.until(lambda: world.model(model).state is State.RUNNING, which=1)


class _Crowd:
    """A backend in which any number of applications run and nothing else happens."""

    name, has_lora, has_autoscaling = "crowd", False, False

    def __init__(self) -> None:
        self.memory = MemoryBackend(lambda: 0.0, start_s=0.0)
        self.digest = self.memory.digest
        self.apply = self.memory.apply

    def observe(self) -> Mapping[str, Seen]:
        return self.memory.observe()


def test_an_idle_pass_over_a_thousand_models_costs_ten_times_one_over_a_hundred(tmp_path: Path) -> None:
    def cost_s(count: int) -> float:
        store = DoubleStore()
        world = World(store)  # type: ignore[arg-type]
        crowd: Any = _Crowd()
        reconciler = Reconciler(
            store,
            crowd,
            Policy(),
            lambda: world.wall,
            steady=lambda: world.steady,
            log=Log(world.log),  # type: ignore[arg-type]
        )
        for number in range(count):
            world.declare(f"m{number}")
        for _ in range(6):
            reconciler.run_once()
        assert all(model.state is State.RUNNING for model in store.live())
        times = []
        for _ in range(7):
            began = time.process_time()
            reconciler.run_once()
            times.append(time.process_time() - began)
        return min(times)

    assert cost_s(1000) <= 12 * cost_s(100)


@pytest.fixture
def real(tmp_path: Path) -> Any:
    store = open_store(f"sqlite:///{tmp_path}/serving.db")
    yield store
    store.close()


def test_its_thread_does_it_all_over_the_real_store(real: Any) -> None:
    out = io.StringIO()
    reconciler = Reconciler(real, MemoryBackend(time.time), Policy(drain_s=0.0), log=Log(out))
    reconciler.start()
    reconciler.start()
    assert [thread.name for thread in threading.enumerate()].count("reconciler") == 1
    try:
        world = World(real)
        world.wall = time.time()
        real.create_user("ann", world.now)
        good, bad = world.declare("good"), world.declare("memfail-x")
        reconciler.wake()
        wait_for(lambda: [real.model(one.model_key).state for one in (good, bad)] == [State.RUNNING, State.FAILED])
        assert "memfail-" in real.model(bad.model_key).error_summary
        assert [condition.type for condition in real.model(good.model_key).conditions] == list(CONDITIONS)
        world.amend(good, engine_kwargs={"a": 1})
        reconciler.wake()
        wait_for(lambda: real.model(good.model_key).progress.serving_generation == 2)
        for one in (good, bad):
            real.delete(one.model_key, world.now)
        reconciler.wake()
        wait_for(lambda: real.live() == ())
    finally:
        reconciler.stop()
    assert "reconciler" not in [thread.name for thread in threading.enumerate()]
    assert real.take_lease("reconciler", "next", time.time(), 1.0) is not None, "the next one need not wait"
    assert out.getvalue() == ""


def test_it_begins_again_after_it_was_stopped(real: Any) -> None:
    reconciler = Reconciler(real, MemoryBackend(time.time), Policy(), log=Log(io.StringIO()))
    world = World(real)
    real.create_user("ann", world.now)
    for suffix in ("one", "two"):
        reconciler.start()
        model: Model = world.declare(suffix)
        reconciler.wake()
        wait_for(lambda: real.model(model.model_key).state is State.RUNNING)  # noqa: B023
        reconciler.stop()


def test_a_lease_of_a_clock_that_was_set_back_keeps_nobody_waiting(real: Any) -> None:
    world = World(real)
    real.create_user("ann", world.now)
    model = world.declare()
    world.run(0)
    world.wall -= 7200.0
    world.restart(0)
    world.until(lambda: world.model(model).state is State.RUNNING, passes=40)


def test_stopping_what_never_ran_is_nothing(real: Any) -> None:
    Reconciler(real, MemoryBackend(time.time), Policy()).stop()


def test_events_tell_the_story_in_order(real: Any) -> None:
    world = World(real)
    real.create_user("ann", world.now)
    model = world.declare(engine_kwargs={"is": "fails"})
    world.settle()
    told: Sequence[str] = [event.event_type for event in real.events(model.model_key, 100)]
    assert told[0] == "DEPLOY_REQUESTED" and told[-1] == "DEPLOY_FAILED"
    assert told.count("DEPLOY_ATTEMPT_FAILED") == 2
    assert ServingSpec.from_dict(real.model(model.model_key).spec.to_dict()).engine_kwargs == {"is": "fails"}
