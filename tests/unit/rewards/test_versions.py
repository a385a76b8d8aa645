"""Versions of a reward as marks: none is lost, whoever wrote it, and their order is that of their times."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import ConflictError
from moorage.pool.marks import check_marks, merged
from moorage.rewards.versions import Given, is_news, marks_for, versions_in


def given_at(at: float, reward: float = 1.0, of: Any = "trajectory", **fields: Any) -> Given:
    return Given(reward=reward, by="given", at=at, of=of, **fields)


@given(
    st.lists(st.tuples(st.floats(0, 2e9), st.floats(-1e9, 1e9), st.sampled_from(["trajectory", "step"])), max_size=15)
)
def test_all_are_there_in_order(rewards: list[tuple[float, float, Any]]) -> None:
    marks: dict[str, Any] = {"trainable": False, "reward.note": "somebody else's"}
    for number, (at, reward, of) in enumerate(rewards):
        marks = merged(marks, marks_for(given_at(at, reward, of), f"{number:032x}", marks, None))
    for of in ("trajectory", "step"):
        found = versions_in(marks, of, None)  # type: ignore[arg-type]
        assert sorted((one.given.at, one.given.reward) for one in found) == sorted(
            (at, reward) for at, reward, which in rewards if which == of
        )
        assert [one.given.at for one in found] == sorted(one.given.at for one in found)
        assert [one.version for one in found] == list(range(1, len(found) + 1))


def test_what_was_there_first_stays_first() -> None:
    first = Given(reward=0.5, by="completed", at=50.0, of="trajectory")
    assert [one.given for one in versions_in({}, "trajectory", first)] == [first]
    marks = marks_for(given_at(10.0, 2.0), "a", {}, first)
    again = marks_for(given_at(11.0, 3.0), "b", marks, given_at(99.0, 99.0))
    assert "reward.first" not in again
    found = versions_in({**marks, **again}, "trajectory", None)
    assert [one.given.reward for one in found] == [0.5, 2.0, 3.0]


def test_the_same_again_is_no_news() -> None:
    one = given_at(1.0, info={"a": 1})
    [before] = versions_in(marks_for(one, "a", {}, None), "trajectory", None)
    assert not is_news(given_at(2.0, info={"a": 1}), [before])
    for other in (given_at(2.0), given_at(2.0, 2.0, info={"a": 1}), given_at(2.0, info={"a": 1}, function="exact")):
        assert is_news(other, [before])
    assert is_news(one, [])
    big = given_at(3.0, info={"text": "x" * 10_000})
    [kept] = versions_in(marks_for(big, "b", {}, None), "trajectory", None)
    assert kept.given.info == {"left_out_bytes": 10_011}
    assert not is_news(big, [kept])


def test_there_is_room_for_as_many_as_are_allowed() -> None:
    marks: dict[str, Any] = {}
    full = {"function": "f" * 64, "function_version": "v" * 64, "info": {"text": "x" * 380}}
    for number in range(20):
        noted = marks_for(given_at(float(number), number, "step", **full), f"{number:032x}", marks, None)
        marks = merged(marks, noted)
    check_marks(marks)
    with pytest.raises(ConflictError) as told:
        marks_for(given_at(99.0), "z", marks, None)
    assert told.value.code == "reward_versions_full"
    assert marks["reward"] == 19
