"""Models that are DELETED are let go of by the reconciler that acts, after their time, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import FailedError, NotFoundError
from moorage.serving.model import Model, State
from moorage.serving.reconciling.retention import EVERY_S
from moorage.serving.store.contract import Store
from moorage.serving.store.opening import open_store
from tests.unit.serving.reconcile.double_store import DoubleStore
from tests.unit.serving.reconcile.world import World

KEEP_S = 1000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 's.db'}")
    yield store
    store.close()


def deleted(world: World, suffix: str) -> Model:
    model = world.declare(suffix)
    world.settle()
    world.store.delete(model.model_key, world.now)
    world.until(lambda: world.model(model).state is State.DELETED)
    return model


def is_there(world: World, model: Model) -> bool:
    try:
        world.store.model(model.model_key)
    except NotFoundError:
        return False
    return True


def test_it_goes_after_its_time_and_what_serves_stays(store: Store) -> None:
    world = World(store, keep_deleted_s=KEEP_S)
    serving, gone = world.declare("serves"), deleted(world, "goes")
    since = world.wall
    world.until(lambda: world.wall > since + KEEP_S / 2, passes=5000)
    assert is_there(world, gone)
    world.until(lambda: not is_there(world, gone), passes=5000)
    assert KEEP_S <= world.wall - since + 2 <= KEEP_S + EVERY_S + 5
    assert world.model(serving).state is State.RUNNING
    purged = [json.loads(line) for line in world.log.getvalue().splitlines() if '"purged"' in line]
    assert [(one["models"], one["idempotency_keys"]) for one in purged] == [(1, 0)]


def test_one_that_does_not_act_purges_nothing() -> None:
    world = World(DoubleStore(), keep_deleted_s=1.0)  # type: ignore[arg-type]
    world.run(0)
    for _ in range(20):
        world.run(1)
        world.tick(0.2)
        world.run(0)
    assert "before purge" not in (world.run(1), world.calls)[1]


def test_it_looks_now_and_then_and_at_once_again_when_there_is_more() -> None:
    world = World(DoubleStore(), keep_deleted_s=KEEP_S)  # type: ignore[arg-type]
    gone = [deleted(world, f"m{n}") for n in range(7)]
    world.tick(3600)
    looked = []
    for _ in range(8):
        world.run()
        looked.append("before purge" in world.calls)
        world.tick(0.25)
    assert looked == [True, True, True, True, False, False, False, False], "two at a time"
    assert not any(is_there(world, one) for one in gone)


def test_a_purge_that_fails_stops_nothing_else() -> None:
    def no(*_: object) -> None:
        raise FailedError("the disk is full", code="store_failed")

    world = World(DoubleStore(), keep_deleted_s=1.0)  # type: ignore[arg-type]
    world.store.purge = no  # type: ignore[assignment,method-assign]
    model = world.declare("m")
    world.settle()
    for _ in range(30):
        world.tick(max(world.run(), 1.0))
    assert world.model(model).state is State.RUNNING
    told = [json.loads(line) for line in world.log.getvalue().splitlines()]
    assert [(one["event"], one["during"]) for one in told] == [("store_failed", "letting go of what is over")]


def test_one_that_missed_all_of_a_model_starts_it_no_more(store: Store) -> None:
    """It lost the lease while the model ran, and has it again when nothing tells of the model any more."""
    world = World(store, keep_deleted_s=1.0)
    model = world.declare("m")
    world.settle()
    first = 0 if world.reconcilers[0]._leadership._lease is not None else 1
    world.tick(60)
    world.run(1 - first)
    world.store.delete(model.model_key, world.now)
    world.until(lambda: not is_there(world, model), which=1 - first)
    world.tick(60)
    for _ in range(5):
        world.tick(max(world.run(first), 1.0))
    assert (world.store.live(), world.cluster.apps) == ((), {})
    other = world.declare("other")
    world.settle()
    assert [app.wanted.model_key for app in world.cluster.apps.values()] == [other.model_key]
