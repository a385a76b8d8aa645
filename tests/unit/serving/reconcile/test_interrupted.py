"""Every pass of a few short stories, cut off at every one of its calls in every way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.serving.backends.contract import AppState
from moorage.serving.model import State
from moorage.serving.reasons import Reason
from moorage.serving.store.contract import Store
from moorage.serving.store.opening import open_store
from tests.unit.serving.reconcile.double_store import DoubleStore
from tests.unit.serving.reconcile.test_converges import check
from tests.unit.serving.reconcile.world import POLICY, Crash, World, fail

WAYS = ("crash", "fail", "take_over", "delete", "amend", "declare")
POINTS = range(1, 13)
HARMLESS = ("crash", "fail", "take_over")


def cut(world: World, way: str, which: int = 0) -> Callable[[str], None]:
    def act(call: str) -> None:
        model = next(iter(world.store.live()), None)
        if way == "crash":
            raise Crash
        if way == "fail":
            fail(call)
        elif way == "take_over" and call not in ("before apply", "after take_lease"):
            world.take_over(which)
        elif way == "delete" and model is not None:
            world.store.delete(model.model_key, world.now)
        elif way == "amend" and model is not None and model.state not in (State.DELETING, State.DELETED):
            world.amend(model, engine_kwargs={"seed": 9})
        elif way == "declare":
            world.declare("another")

    return act


def comes(world: World) -> None:
    world.declare()


def is_replaced(world: World) -> None:
    model = world.declare()
    world.settle()
    world.amend(model, engine_kwargs={"seed": 1})


def grows(world: World) -> None:
    model = world.declare()
    world.settle()
    world.amend(model, num_replicas=3)


def goes(world: World) -> None:
    model = world.declare()
    world.settle()
    world.store.delete(model.model_key, world.now)


def fails(world: World) -> None:
    world.declare(engine_kwargs={"is": "fails"})


def is_lost(world: World) -> None:
    world.declare()
    world.settle()
    world.cluster.lose(next(iter(world.cluster.apps)))


STORIES = (comes, is_replaced, grows, goes, fails, is_lost)


def tell(store: Store, story: Callable[[World], None], way: str, after: int, point: int) -> World:
    world = World(store)
    story(world)
    for _ in range(after):
        world.tick(max(world.run(), 0.3))
    world.run(0, (point, cut(world, way)))
    world.settle()
    check(world)
    return world


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_a_pass_may_be_cut_off_anywhere(story: Callable[[World], None], way: str) -> None:
    for after in (0, 1, 9):
        for point in POINTS:
            world = tell(DoubleStore(), story, way, after, point)  # type: ignore[arg-type]
            if way in HARMLESS:
                starts = {comes: 1, is_replaced: 2, grows: 1, goes: 1, fails: POLICY.attempts, is_lost: 2}
                assert world.cluster.started == starts[story], f"after {after} passes at call {point}"


@pytest.mark.parametrize("story", [is_replaced, fails], ids=lambda story: story.__name__)
def test_the_real_store_holds_what_a_pass_needs(story: Callable[[World], None], tmp_path: Path) -> None:
    for number, (way, point) in enumerate([("crash", 6), ("take_over", 8), ("amend", 6)]):
        store = open_store(f"sqlite:///{tmp_path}/{number}.db")
        store.create_user("ann", World(store).now)
        try:
            tell(store, story, way, 0, point)
        finally:
            store.close()


def test_what_failed_is_taken_away_before_it_is_tried_again() -> None:
    """A pass that noted a failure and died, and a machine that slept on it: no attempt is counted that was not made."""
    world = World(DoubleStore())  # type: ignore[arg-type]
    model = world.declare(engine_kwargs={"is": "fails"})
    world.until(lambda: any(one.state is AppState.FAILED for one in world.cluster.apps.values()))

    def die(call: str) -> None:
        raise Crash

    world.run(0, ("before apply", die))
    world.tick(1000)
    world.until(lambda: world.model(model).state is State.FAILED)
    assert world.cluster.started == POLICY.attempts
    assert world.condition(model, "Healthy") == (False, Reason.DEPLOY_FAILED)


def test_a_stale_list_is_never_told() -> None:
    """The other reconciler acts between what this one wrote and what it was about to tell."""
    world = World(DoubleStore())  # type: ignore[arg-type]
    world.declare()
    world.run(0, ("after record", lambda _: world.take_over(0)))
    assert len(world.cluster.told) == 1 and "apply" not in " ".join(world.calls)
