"""What builds that failed wrote is kept before they are taken away, whatever the backend does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moorage.serving.backends.contract import AppState
from moorage.serving.backends.memory import MemoryBackend
from moorage.serving.log import Log
from moorage.serving.model import Model, State
from moorage.serving.plan.policy import Policy
from moorage.serving.reconciling.failing import LINES, MOST_CHARACTERS, READ_WITHIN_S, last_lines, with_logs
from moorage.serving.reconciling.reconciler import Reconciler
from moorage.serving.replica_lines import LONGEST_LINE
from moorage.serving.store.opening import open_store
from tests.contract.serving_store_parts import NOW, change
from tests.unit.serving.reconcile.double_store import DoubleStore
from tests.unit.serving.reconcile.world import World, app_of


class Scene:
    """A World over a real store, whose applications write what `lines` says."""

    def __init__(self, store: Any) -> None:
        self.world = World(store)
        self.asked: list[str] = []
        self.lines: list[str] | Exception = ["r1 loading", "r1 ValueError: bad weights"]
        self.world.cluster.logs = self._logs  # type: ignore[method-assign]
        store.create_user("ann", self.world.now)

    def _logs(self, app: str, lines: int) -> Iterator[str]:
        assert app in self.world.cluster.apps, "it was taken away before it was read"
        assert lines == LINES
        self.asked.append(app)
        if isinstance(self.lines, Exception):
            raise self.lines
        yield from self.lines

    def kept(self, model: Model) -> Any:
        return self.world.store.failure_log(model.model_key)

    def failed(self, model: Model) -> bool:
        return self.world.model(model).state is State.FAILED


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    store = open_store(f"sqlite:///{tmp_path}/serving.db")
    yield Scene(store)
    store.close()


def test_the_last_lines_of_a_failed_build_outlive_it(scene: Scene) -> None:
    world = scene.world
    model, other = world.declare("m", engine_kwargs={"is": "fails"}), world.declare("good")
    world.until(lambda: scene.failed(model) and not scene.world.cluster.apps.keys() - {app_of(other, other.spec)})
    kept = scene.kept(model)
    assert (kept.app, kept.lines) == (app_of(model, model.spec), ("r1 loading", "r1 ValueError: bad weights"))
    assert kept.failed_at <= world.now
    assert scene.kept(other) is None
    assert len(scene.asked) == world.policy.attempts, "once for every failure, and never again"


def test_the_next_failure_takes_its_place_and_an_older_revisions_does_not(scene: Scene) -> None:
    world = scene.world
    model = world.declare("m")
    world.until(lambda: world.model(model).state is State.RUNNING)
    world.amend(model, engine_kwargs={"is": "fails"})
    world.until(lambda: scene.failed(model))
    second = world.model(model)
    scene.lines = ["r2 the older one died"]
    world.cluster.kill(app_of(model, model.spec))
    world.until(lambda: app_of(model, model.spec) not in world.cluster.apps)
    world.settle()
    assert scene.kept(model).app == app_of(second, second.spec)
    scene.lines = ["r3 again"]
    world.amend(model, engine_kwargs={"is": "fails", "x": 1})
    world.until(lambda: scene.failed(model))
    third = world.model(model)
    assert (scene.kept(model).app, scene.kept(model).lines) == (app_of(third, third.spec), ("r3 again",))


def test_one_that_is_too_late_is_read_too(scene: Scene) -> None:
    world = scene.world
    model = world.declare("m", engine_kwargs={"is": "never"})
    world.until(lambda: scene.failed(model))
    assert "it did not serve within" in str(world.model(model).error_summary)
    assert scene.kept(model).lines == ("r1 loading", "r1 ValueError: bad weights")


def test_one_that_is_deleted_is_not_read_and_nothing_of_it_is_kept(scene: Scene) -> None:
    world = scene.world
    model = world.declare("m", engine_kwargs={"is": "fails"})
    world.until(lambda: scene.failed(model))
    asked = len(scene.asked)
    world.store.delete(model.model_key, world.now)
    world.until(lambda: world.model(model).state is State.DELETED)
    assert scene.kept(model) is None
    assert len(scene.asked) == asked


@pytest.mark.parametrize("lines", [RuntimeError("no log"), []])
def test_what_cannot_be_read_stops_nobody(scene: Scene, lines: Any) -> None:
    scene.lines = lines
    model, other = scene.world.declare("m", engine_kwargs={"is": "fails"}), scene.world.declare("good")
    scene.world.until(lambda: scene.failed(model) and scene.world.model(other).state is State.RUNNING)
    assert scene.kept(model) is None
    assert scene.world.log.getvalue() == ""


def test_it_is_read_again_when_the_pass_was_cut_off(scene: Scene) -> None:
    """The lease is taken anew before every reading, and what is lost in between is done once more."""
    world = scene.world
    model = world.declare("m", engine_kwargs={"is": "fails"})
    world.until(lambda: bool(world.cluster.apps))
    world.cluster.tick(5.0)
    app = app_of(model, model.spec)
    world.until(lambda: world.cluster.apps[app].state is AppState.FAILED)
    world.run(0, ("before record", lambda _: world.take_over(0)))
    world.until(lambda: scene.failed(model))
    assert scene.kept(model).app == app


def test_the_memory_backends_models_keep_theirs(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/serving.db")
    world = World(store)
    backend = MemoryBackend(lambda: world.wall)
    reconciler = Reconciler(
        store, backend, Policy(attempts=1), lambda: world.wall, steady=lambda: world.steady, log=Log(io.StringIO())
    )
    store.create_user("ann", world.now)
    model = world.declare("memfail-x")
    for _ in range(20):
        reconciler.run_once()
        world.tick(0.5)
    kept = store.failure_log(model.model_key)
    assert kept is not None
    app = app_of(model, model.spec)
    assert kept.lines[0] == f"{app}#0 started {model.model_id}"
    assert "FAILED: a model of the memory backend" in kept.lines[-1]
    assert app not in backend.observe()
    store.close()


def test_it_is_bounded_and_every_replica_has_its_share() -> None:
    many = [f"r{replica} line {number}" for replica in range(4) for number in range(500)]
    kept = last_lines(many)
    assert len(kept) == LINES
    assert [line for line in kept if line.startswith("r3 ")] == [f"r3 line {number}" for number in range(450, 500)]
    assert len(last_lines(f"r{number} x" for number in range(5000))) == LINES
    long = last_lines([f"r {'x' * 100_000}{number}" for number in range(300)])
    assert {len(line) for line in long} == {LONGEST_LINE}
    assert sum(map(len, long)) <= MOST_CHARACTERS
    assert last_lines(["r \0 \ud800"]) == ("r \ufffd ?",)
    assert last_lines([]) == ()


def test_a_pass_does_not_read_for_ever() -> None:
    """A pass must not outlast its lease: what fails beside the first ones goes without."""
    clock = iter(range(1000))
    changes = [replace(change(World(DoubleStore()).declare()), model_key=f"k{number}") for number in range(50)]
    asked: list[str] = []

    def logs(app: str, _: int) -> Iterator[str]:
        asked.append(app)
        return iter(("r x",))

    failed = {one.model_key: f"app-{one.model_key}" for one in changes}
    made = with_logs(changes, failed, logs, NOW, before_each=lambda: None, steady=lambda: float(next(clock)))
    assert [one.model_key for one in made] == [one.model_key for one in changes]
    assert 0 < len(asked) <= READ_WITHIN_S
    assert sum(one.failure_log is not None for one in made) == len(asked)
