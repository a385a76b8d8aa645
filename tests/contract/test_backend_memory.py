"""The memory backend keeps the contract of backends, and its own word on time."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from moorage.serving.backends.contract import AppState, Backend, Wanted
from moorage.serving.backends.memory import MemoryBackend
from moorage.serving.spec.spec import Autoscaling, ServingSpec
from tests.contract.backend_contract import BackendContract, Rig, wanted_of


class MemoryRig(Rig):
    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.backend = MemoryBackend(lambda: self.now, base_url="http://127.0.0.1:9/v1")

    def wanted(self, name: str, replicas: int = 1) -> Wanted:
        return wanted_of(name, ServingSpec(model_id=f"tiny-{name}", model_source="org/tiny", num_replicas=replicas))

    def failing(self, name: str) -> Wanted:
        return wanted_of(name, ServingSpec(model_id="memfail-x", model_source="org/tiny"))

    def reopened(self) -> Backend:
        return self.backend

    def replicas(self, app: str) -> Collection[object]:
        seen = self.backend.observe()[app]
        return [(seen.details["started_at"], number) for number in range(seen.replicas_ready)]

    def pause(self) -> None:
        self.now += 0.05


@pytest.fixture(scope="module")
def rig() -> MemoryRig:
    return MemoryRig()


class TestMemoryBackend(BackendContract):
    pass


def test_the_same_calls_at_the_same_times_give_the_same_states() -> None:
    def told() -> list[object]:
        rig, states = MemoryRig(), []
        for wanted in ([rig.wanted("a")], [rig.wanted("a", 2), rig.failing("c")], [rig.failing("c")], []):
            rig.backend.apply(wanted)
            for _ in range(8):
                rig.pause()
                states.append(dict(rig.backend.observe()))
        return states

    assert told() == told()


@pytest.mark.parametrize(("wished", "starts"), [(1, 2), (3, 3), (9, 4)])
def test_what_follows_its_load_starts_where_num_replicas_says(wished: int, starts: int) -> None:
    """Within its bounds, as Ray's `initial_replicas`."""
    rig = MemoryRig()
    scaling = Autoscaling(min_replicas=2, max_replicas=4)
    spec = ServingSpec(model_id="m", model_source="org/tiny", num_replicas=wished, autoscaling=scaling)
    rig.backend.apply([wanted_of("a", spec)])
    rig.now += 1.0
    [seen] = rig.backend.observe().values()
    assert seen.replicas_ready == starts


@pytest.mark.parametrize("step_s", [-3600.0, -0.1, 3600.0])
def test_what_has_come_up_stays_up_however_the_clock_is_set(step_s: float) -> None:
    rig = MemoryRig()
    one = rig.wanted("a")
    rig.backend.apply([one])
    rig.now += 1
    assert rig.backend.observe()[one.app].state is AppState.RUNNING
    rig.now += step_s
    for _ in range(50):
        rig.pause()
        assert rig.backend.observe()[one.app].state is AppState.RUNNING


def test_an_application_that_is_asked_for_while_it_goes_begins_anew() -> None:
    rig = MemoryRig()
    one = rig.wanted("a")
    rig.backend.apply([one])
    rig.now += 1
    rig.backend.apply([])
    rig.backend.apply([one])
    assert rig.backend.observe()[one.app].state is AppState.DEPLOYING
