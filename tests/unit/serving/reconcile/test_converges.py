"""From any interleaving of what users do, crashes, faults and clocks, what runs becomes what is declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.serving.backends.contract import AppState
from moorage.serving.model import Model, State
from moorage.serving.reasons import Reason
from tests.unit.serving.reconcile.double_store import DoubleStore
from tests.unit.serving.reconcile.world import Crash, World, app_of, fail, forgive

KINDS = st.sampled_from(["good", "good", "good", "good", "fails", "never", "refused"])
PLACES = st.integers(0, 5)
SUFFIXES = st.sampled_from(["m0", "m1", "m2"])
ARGUMENTS = st.builds(lambda kind, seed: {"is": kind, "seed": seed}, KINDS, st.integers(0, 1))
SPECS = st.fixed_dictionaries({"num_replicas": st.integers(1, 3), "engine_kwargs": ARGUMENTS})
USER_ACTS = st.one_of(
    st.tuples(st.just("declare"), SUFFIXES, SPECS),
    st.tuples(st.just("scale"), PLACES, st.integers(1, 3)),
    st.tuples(st.just("amend"), PLACES, SPECS),
    st.tuples(st.just("rollback"), PLACES),
    st.tuples(st.just("expire"), PLACES, st.sampled_from([1.0, 30.0])),
    st.tuples(st.just("delete"), PLACES),
)
FAULTS = st.one_of(
    st.tuples(st.sampled_from(["kill", "silence", "lose"]), PLACES),
    st.tuples(st.just("heal")),
    st.tuples(st.just("cut"), st.booleans()),
    st.tuples(st.just("refuse"), PLACES, st.booleans()),
    st.tuples(st.just("orphan")),
    st.tuples(st.just("step"), st.sampled_from([-7200.0, -5.0, 5.0, 7200.0])),
    st.tuples(st.just("tick"), st.sampled_from([0.3, 1.0, 5.0, 40.0, 1000.0])),
)


def weighted(**strategies: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of them, each as often as its number says."""
    names = [name for name, (weight, _) in strategies.items() for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: strategies[name][1])


BREAKS = st.tuples(st.sampled_from(["crash", "fail", "take_over"]))
INTERRUPTIONS = weighted(breaks=(4, BREAKS), user=(2, USER_ACTS), fault=(1, FAULTS))
PASSES = st.tuples(st.just("pass"), st.integers(0, 1), st.tuples(st.integers(1, 12), INTERRUPTIONS))
AWHILE = st.tuples(st.just("go_on"), st.integers(1, 16))
STEPS = weighted(user=(3, USER_ACTS), fault=(2, FAULTS), broken=(3, PASSES), awhile=(4, AWHILE))
BEGINNING = st.lists(st.tuples(st.just("declare"), SUFFIXES, SPECS), min_size=1, max_size=3)
STORIES = st.builds(
    lambda first, rest: [*first, ("go_on", 12), *rest], BEGINNING, st.lists(STEPS, min_size=6, max_size=24)
)


class Story:
    """What is told is done to a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seed = 0

    def tell(self, step: tuple[Any, ...]) -> None:
        getattr(self, f"do_{step[0]}")(*step[1:])

    def do_declare(self, suffix: str, spec: dict[str, Any]) -> None:
        forgive(lambda: self.world.declare(suffix, **spec))

    def do_scale(self, place: int, replicas: int) -> None:
        self._to(place, lambda model: self.world.amend(model, num_replicas=replicas))

    def do_amend(self, place: int, spec: dict[str, Any]) -> None:
        self._to(place, lambda model: self.world.amend(model, **spec))

    def do_rollback(self, place: int) -> None:
        def back(model: Model) -> None:
            first = self.world.store.revisions(model.model_key)[0].spec
            self.world.store.amend(model.model_key, first, self.world.now, generation=model.generation)

        self._to(place, back)

    def do_expire(self, place: int, ttl_s: float) -> None:
        self._to(place, lambda model: self.world.amend(model, ttl_s=ttl_s))

    def do_delete(self, place: int) -> None:
        self._to(place, lambda model: self.world.store.delete(model.model_key, self.world.now))

    def do_kill(self, place: int) -> None:
        self._at(place, self.world.cluster.kill)

    def do_silence(self, place: int) -> None:
        self._at(place, self.world.cluster.silence)

    def do_lose(self, place: int) -> None:
        self._at(place, self.world.cluster.lose)

    def do_heal(self) -> None:
        for app in self.world.cluster.apps.values():
            if app.state is AppState.DEGRADED:
                app.state = AppState.RUNNING

    def do_cut(self, cut: bool) -> None:
        self.world.cluster.unreachable = cut

    def do_refuse(self, place: int, refused: bool) -> None:
        refuses = self.world.cluster.refuses
        self._to(place, lambda model: refuses.add(model.model_key) if refused else refuses.discard(model.model_key))

    def do_orphan(self) -> None:
        """An application of ours that no model is known of: left by a store that was put back."""
        for name, app in list(self.world.cluster.apps.items())[:1]:
            stranger = name.replace("svc-", "svc-old")
            self.world.cluster.apps[stranger] = type(app)(app.wanted, app.digest, state=AppState.RUNNING)

    def do_step(self, seconds: float) -> None:
        self.world.wall += seconds

    def do_tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    def do_go_on(self, passes: int) -> None:
        for _ in range(passes):
            self.world.tick(self.world.run())

    def do_pass(self, which: int, interruption: tuple[int, tuple[Any, ...]]) -> None:
        point, act = interruption
        self.world.run(which, (point, lambda call: self._interrupt(which, act, call)))

    def _interrupt(self, which: int, act: tuple[Any, ...], call: str) -> None:
        if act[0] == "crash":
            raise Crash
        if act[0] == "fail":
            fail(call)
        if act[0] == "take_over":
            # Between the last look at the lease and the call there is nothing that could be looked at.
            if call not in ("before apply", "after take_lease"):
                self.world.take_over(which)
            return
        self.tell(act)

    def _to(self, place: int, act: Callable[[Model], object]) -> None:
        models = self.world.store.live()
        if models:
            forgive(lambda: act(models[place % len(models)]))

    def _at(self, place: int, act: Callable[[str], None]) -> None:
        names = [name for name, app in self.world.cluster.apps.items() if app.going_s is None]
        if names:
            act(names[place % len(names)])


def tell(world: World, story: list[tuple[Any, ...]]) -> None:
    teller = Story(world)
    for step in story:
        teller.tell(step)
    world.cluster.unreachable = False
    world.cluster.refuses.clear()
    teller.do_heal()
    world.settle()
    check(world)
    for model in world.store.live():
        if model.state is State.FAILED:
            world.amend(model, engine_kwargs={"is": "good", "seed": 7})
    world.settle()
    assert all(model.state is State.RUNNING for model in world.store.live())
    check(world)
    assert world.reasons <= {reason.value for reason in Reason}


def check(world: World) -> None:
    """What runs is what is declared, and what is on record is what runs."""
    expected = set()
    for model in world.store.live():
        kind = str(model.spec.engine_kwargs.get("is", "good"))
        assert model.observed_generation == model.generation
        assert kind == "good" or model.state is State.FAILED
        assert (model.error_summary is None) is (model.state is State.RUNNING)
        ready = world.condition(model, "Ready")
        serving = model.progress.serving
        if model.state is State.RUNNING:
            assert serving == model.spec and ready == (True, Reason.SERVING)
            assert world.condition(model, "Healthy") == (True, Reason.SERVING)
            assert world.condition(model, "Applied") == (True, Reason.ACCEPTED)
        if serving is None:
            assert ready == (False, Reason.NEVER_SERVED) and model.progress.endpoints == ()
            continue
        assert ready == (True, Reason.SERVING if model.state is State.RUNNING else Reason.ROLLED_BACK)
        name = app_of(model, serving)
        assert [one.base_url for one in model.progress.endpoints] == [f"http://{name}/v1"]
        assert world.cluster.apps[name].wanted.spec.num_replicas == serving.num_replicas
        expected.add(name)
    assert set(world.cluster.apps) == expected


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=STORIES, keep_deleted_s=st.sampled_from([None, 1.0, 30.0]))
def test_what_runs_becomes_what_is_declared(story: list[tuple[Any, ...]], keep_deleted_s: float | None) -> None:
    tell(World(DoubleStore(), keep_deleted_s=keep_deleted_s), story)  # type: ignore[arg-type]
