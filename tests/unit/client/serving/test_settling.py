"""Waiting for a model: until it is settled, through a server that goes away, and not for longer than was said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moorage.client.serving.settling import wait_until_settled
from moorage.client.serving.values import Detail
from moorage.errors import NotReadyError, TryAgainError
from tests.unit.client.serving.made import detail, model


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += max(seconds, 0.001)


def settle(answers: list[Detail | Exception], timeout_s: float = 100.0) -> tuple[Detail, list[Detail], float]:
    clock, seen = Clock(), list[Detail]()
    left: Iterator[Detail | Exception] = iter(answers)
    last = answers[-1]

    def ask(key: str) -> Detail:
        answer = next(left, last)
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = wait_until_settled(ask, "k", timeout_s=timeout_s, see=seen.append, clock=clock, sleep=clock.sleep)
    return found, seen, clock.now


def test_settled_is_of_the_newest_generation() -> None:
    older = detail(state="RUNNING", generation=2, observed_generation=1)
    newer = detail(state="RUNNING", generation=2, observed_generation=2)
    found, seen, _ = settle([detail(), older, newer])
    assert (found, len(seen)) == (newer, 3)


@pytest.mark.parametrize(
    ("state", "generation", "observed", "settled"),
    [
        ("QUEUED", 1, 0, False),
        ("QUEUED", 1, 1, False),
        ("DEPLOYING", 1, 0, False),
        ("RUNNING", 1, 1, True),
        ("FAILED", 3, 3, True),
        ("FAILED", 3, 2, False),
        ("DELETING", 1, 1, False),
        ("DELETED", 1, 0, True),
    ],
)
def test_what_is_settled(state: str, generation: int, observed: int, settled: bool) -> None:
    assert model(state=state, generation=generation, observed_generation=observed).settled is settled


def test_a_server_that_goes_away_is_waited_for() -> None:
    done = detail(state="RUNNING", observed_generation=1)
    found, _, _ = settle([TryAgainError("gone"), detail(), TryAgainError("gone"), done])
    assert found is done


def test_too_late_tells_why() -> None:
    waits = detail(
        conditions=[{"type": "Ready", "status": "False", "reason": "ReplicasStarting", "message": "loading"}]
    )
    with pytest.raises(NotReadyError) as told:
        settle([waits], timeout_s=5)
    assert (told.value.code, told.value.exit_status) == ("not_settled", 7)
    assert "ReplicasStarting loading" in told.value.message
    assert told.value.next[0] == f"moor models get {waits.model.model_key}"


def test_nobody_answers_until_the_end() -> None:
    with pytest.raises(TryAgainError):
        settle([TryAgainError("gone")], timeout_s=5)


def test_it_asks_once_even_without_time() -> None:
    done = detail(state="RUNNING", observed_generation=1)
    assert settle([done], timeout_s=0)[0] is done
    with pytest.raises(NotReadyError):
        settle([detail()], timeout_s=0)
