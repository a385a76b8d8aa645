"""The circuit breaker, statistics, and lanes of a fleet."""

from __future__ import annotations

import pytest

from moorage.engines.fleet.breaker import Breaker
from moorage.engines.fleet.choice import for_request
from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.statistics import Statistics
from tests.stand_ins.engine_stub import Fault
from tests.unit.engines.fleet.fleets import CHAT, body, endpoint, fleet_of, run, stub
from tests.unit.engines.fleet.test_choice import One


def test_it_opens_after_five_failures_and_longer_each_time() -> None:
    breaker = Breaker()
    assert [breaker.failed(0.0) for _ in range(5)] == [False] * 4 + [True]
    assert breaker.is_open
    assert not breaker.try_again(0.5)
    assert breaker.try_again(1.0)
    assert breaker.failed(1.0)  # on trial: one is enough
    assert not breaker.try_again(2.9)
    assert breaker.try_again(3.0)
    breaker.succeeded()
    assert [breaker.failed(9.0) for _ in range(5)] == [False] * 4 + [True]
    assert breaker.until_s == 10.0
    assert breaker.opened == 3


def test_spared_ones_are_asked_when_there_is_nobody_else() -> None:
    fleet = [One("a"), One("b", load=0.9)]
    assert for_request(fleet, None, spared=["a"]) == fleet[1]
    assert for_request(fleet, None, home="a", spared=["a"]) == fleet[1]
    assert for_request(fleet, None, home="a", pinned=True, spared=["a"]) == fleet[0]
    assert for_request(fleet, None, spared=["a", "b"]) == fleet[0]
    assert for_request(fleet[:1], None, home="a", spared=["a"]) == fleet[0]


def test_an_endpoint_that_only_fails_is_spared() -> None:
    async def main() -> None:
        bad, good = stub(), stub()
        async with fleet_of(bad, good) as fleet:
            bad.faults.extend([Fault("status", 500)] * 50)
            for _ in range(12):
                _, answer = await fleet.ask(CHAT, body)
                assert answer.status == 200
            states = fleet.states()
            assert states[0].tripped
            assert len(bad.requests) == 5
            assert states[1].statistics.of_lane("train")["retry_rate"] == pytest.approx(5 / 12)

    run(main)


def test_statistics() -> None:
    statistics = Statistics(100)
    for number in range(1, 201):
        statistics.answered(float(number), 1 + (number % 2), "train")
    said = statistics.of_lane("train")
    assert (said["requests"], said["mean_s"], said["p99_s"]) == (100, 150.5, 199.0)
    assert (said["mean_attempts"], said["retry_rate"]) == (1.5, 0.5)
    assert statistics.of_lane("eval")["requests"] == 0
    assert statistics.of_lane("eval")["mean_s"] is None


def test_weights_share_slots() -> None:
    fleet = Fleet(
        [endpoint("http://h:1", num_max_requests_at_once=8, num_requests_for_eval=4, weight=0.25)],
        clock=lambda: 0.0,
        silence_s=1,
    )
    [state] = fleet.states()
    assert (state.train.limit, state.evaluation.limit) == (2, 1)
