"""What every backend of the control plane promises, as tests. A subclass says how one is had:

    @pytest.fixture(scope="module")
    def rig() -> Iterator[Rig]: ...

    class TestMemoryBackend(BackendContract):
        pass

Few applications are started, for on a real cluster each takes a minute: one long story, and short tests of what needs
none. Nothing is said of how long things take; `Rig.deadline_s` bounds it, and `Rig.pause` is all that is between looks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from moorage.errors import MoorageError
from moorage.serving.backends.contract import AppState, Backend, BackendUnreachable, Seen, Wanted
from moorage.serving.reasons import Reason
from moorage.serving.spec.spec import Autoscaling, ServingSpec

__all__ = ["BackendContract", "Rig", "wanted_of"]

KEYS = {"a": "svc-ann-20260101-000000-aaaa", "b": "svc-bob-20260101-000000-bbbb", "c": "svc-cid-20260101-000000-cccc"}


def wanted_of(name: str, spec: ServingSpec) -> Wanted:
    """The application of a model; `name` is one of `KEYS`."""
    key = KEYS[name]
    return Wanted(
        app=f"{key}-{spec.build()}",
        model_key=key,
        model_id=f"{key.split('-')[1]}-202601010000-{spec.model_id}",
        spec=spec,
    )


class Rig:
    """A backend, and what tests must do to it that its contract does not offer. Override what is there."""

    backend: Backend
    deadline_s = 30.0
    """Whatever is waited for takes no longer."""

    def wanted(self, name: str, replicas: int = 1) -> Wanted:
        """An application that can be served here."""
        raise NotImplementedError

    def failing(self, name: str) -> Wanted | None:
        """One that is accepted and ends FAILED; None: it takes too long here."""
        return None

    def refused(self, name: str) -> Wanted | None:
        """One that `apply` refuses; None: there is none."""
        return None

    def reopened(self) -> Backend:
        """Another backend over the same cluster, as a control plane that was started anew makes it."""
        raise NotImplementedError

    def replicas(self, app: str) -> Collection[object]:
        """What tells one replica from the next that takes its place: process ids, names with a random part."""
        raise NotImplementedError

    def foreign(self) -> Callable[[], bool] | None:
        """Start something in the same cluster that is not ours; the answer says whether it is still as it was."""
        return None

    def unreachable(self) -> AbstractContextManager[Backend] | None:
        """A backend whose cluster does not answer; None: there is no such thing here."""
        return None

    def pause(self) -> None:
        """Between two looks."""
        time.sleep(0.2)

    def settle(self, done: Callable[[Mapping[str, Seen]], bool], deadline_s: float | None = None) -> Mapping[str, Seen]:
        """Look until it is so; what was seen then."""
        ends = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        while True:
            seen = self.backend.observe()
            if done(seen):
                return seen
            if time.monotonic() > ends:
                pytest.fail(f"not settled in time; seen last: {dict(seen)}")
            self.pause()


class BackendContract:
    """The laws. A subclass's module gives the fixture `rig`, made once; its cluster has none of `KEYS` at first."""

    def test_equal_applications_have_equal_digests(self, rig: Rig) -> None:
        one, again = rig.wanted("a"), rig.wanted("a")
        assert rig.backend.digest(one) == rig.backend.digest(again) == rig.reopened().digest(one)

    def test_what_is_not_for_the_backend_is_not_in_the_digest(self, rig: Rig) -> None:
        one = rig.wanted("a")
        lived = replace(one, spec=replace(one.spec, ttl_s=60.0))
        assert rig.backend.digest(one) == rig.backend.digest(lived)

    def test_every_change_of_what_runs_is_in_the_digest(self, rig: Rig) -> None:
        one = rig.wanted("a")
        specs = [
            replace(one.spec, num_replicas=2),
            replace(one.spec, num_replicas=3),
            replace(one.spec, autoscaling=Autoscaling(min_replicas=1, max_replicas=4)),
            replace(one.spec, gpus_per_replica=2),
            replace(one.spec, engine_kwargs={**one.spec.engine_kwargs, "max_model_len": 77}),
            replace(one.spec, model_source="somebody/else"),
        ]
        digests = [rig.backend.digest(one), *(rig.backend.digest(replace(one, spec=spec)) for spec in specs)]
        assert len(set(digests)) == len(digests)

    def test_the_summary_can_be_shown(self, rig: Rig) -> None:
        assert isinstance(json.loads(json.dumps(rig.backend.summary())), dict)

    def test_it_says_so_when_nobody_answers(self, rig: Rig) -> None:
        cut = rig.unreachable()
        if cut is None:
            pytest.skip("this backend cannot be unreachable")
        with cut as backend:
            for ask in (backend.observe, backend.summary, lambda: backend.apply([rig.wanted("a")])):
                with pytest.raises(BackendUnreachable):
                    ask()
            assert backend.digest(rig.wanted("a")), "what is asked of nobody needs nobody"

    def test_there_are_no_logs_of_what_is_not_there(self, rig: Rig) -> None:
        with pytest.raises(MoorageError):
            list(rig.backend.logs("svc-nobody-20260101-000000-zzzz-00000000", 5))

    def test_an_application_comes_scales_and_goes_while_others_stay(self, rig: Rig) -> None:
        """The story: one comes, is told again, scales while another one comes, others fail beside it, all go."""
        foreign = rig.foreign()
        one = rig.wanted("a")
        self._comes(rig, one)
        self._is_left_alone(rig, one)
        grown, other = rig.wanted("a", replicas=2), rig.wanted("b")
        assert grown.app == one.app, "a change of replicas keeps the build"
        self._scales_beside_a_new_one(rig, grown, other)
        self._others_fail(rig, grown, other)
        self._another_goes(rig, grown, other)
        self._all_go(rig)
        assert foreign is None or foreign(), "what is not ours stays"

    def _comes(self, rig: Rig, one: Wanted) -> None:
        assert one.app not in rig.backend.observe()
        rig.backend.apply([one])
        seen = rig.backend.observe()
        assert set(seen) == {one.app}, "it is seen as soon as it is accepted, and nothing that is not ours"
        assert seen[one.app].digest == rig.backend.digest(one)
        assert seen[one.app].state in (AppState.DEPLOYING, AppState.RUNNING)
        self._can_be_shown(seen[one.app])
        told = rig.settle(lambda seen: _serves(seen, one))[one.app]
        self._can_be_shown(told)
        assert told.app == one.app and told.reason is Reason.SERVING
        assert all(endpoint.base_url.startswith("http") and endpoint.model for endpoint in told.endpoints)
        assert rig.backend.observe() == {one.app: told}, "what does not change is told in the same words"

    def _can_be_shown(self, seen: Seen) -> None:
        json.dumps(dict(seen.details))
        assert isinstance(seen.reason, Reason) and isinstance(seen.state, AppState) and isinstance(seen.message, str)

    def _is_left_alone(self, rig: Rig, one: Wanted) -> None:
        before = set(rig.replicas(one.app))
        assert before
        rig.backend.apply([one])
        anew = rig.reopened()
        assert anew.observe()[one.app].digest == anew.digest(one), "a control plane that starts anew has nothing to do"
        anew.apply([one])
        seen = rig.backend.observe()[one.app]
        assert seen.state is AppState.RUNNING and set(rig.replicas(one.app)) == before
        lines = list(rig.backend.logs(one.app, 3))
        assert all(isinstance(line, str) and "\n" not in line for line in lines)
        assert len(lines) <= 3 * max(1, seen.replicas_ready)

    def _scales_beside_a_new_one(self, rig: Rig, grown: Wanted, other: Wanted) -> None:
        before = set(rig.replicas(grown.app))
        rig.backend.apply([grown, other])
        seen = rig.backend.observe()
        assert {app: one.digest for app, one in seen.items()} == {
            one.app: rig.backend.digest(one) for one in (grown, other)
        }

        def done(seen: Mapping[str, Seen]) -> bool:
            assert seen[grown.app].state is AppState.RUNNING, "it goes on serving while it grows"
            return _serves(seen, grown) and _serves(seen, other)

        rig.settle(done)
        assert before < set(rig.replicas(grown.app)), "the replica that was there was not touched"

    def _others_fail(self, rig: Rig, grown: Wanted, other: Wanted) -> None:
        before = {one.app: set(rig.replicas(one.app)) for one in (grown, other)}
        seen = rig.backend.observe()
        bad = rig.refused("c")
        if bad is not None:
            with pytest.raises(MoorageError) as said:
                rig.backend.apply([grown, bad])
            assert not isinstance(said.value, BackendUnreachable)
            assert rig.backend.observe() == seen, "a refused list changes nothing, what it leaves out included"
        failing = rig.failing("c")
        if failing is not None:
            rig.backend.apply([grown, other, failing])
            failed = rig.settle(lambda seen: seen[failing.app].state is AppState.FAILED)[failing.app]
            assert failed.message and not failed.endpoints
        after = rig.backend.observe()
        for one in (grown, other):
            assert after[one.app] == seen[one.app]
            assert set(rig.replicas(one.app)) == before[one.app]

    def _another_goes(self, rig: Rig, grown: Wanted, other: Wanted) -> None:
        before = set(rig.replicas(grown.app))
        rig.backend.apply([grown])
        seen = rig.backend.observe()
        assert all(one.state is AppState.REMOVING for app, one in seen.items() if app != grown.app)
        rig.settle(lambda seen: set(seen) == {grown.app})
        assert _serves(rig.backend.observe(), grown) and set(rig.replicas(grown.app)) == before
        with pytest.raises(MoorageError):
            list(rig.backend.logs(other.app, 5))

    def _all_go(self, rig: Rig) -> None:
        rig.backend.apply([])
        rig.settle(lambda seen: not seen)
        rig.backend.apply([])
        assert rig.backend.observe() == {}


def _serves(seen: Mapping[str, Seen], wanted: Wanted) -> bool:
    one = seen[wanted.app]
    assert one.state is not AppState.FAILED, one.message
    return one.state is AppState.RUNNING and one.replicas_ready == wanted.spec.num_replicas
