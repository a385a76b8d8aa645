"""Following logs: every line once, in order, and an end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.client.serving.following import MOST_GONE, follow_lines, fresh
from moorage.errors import NotFoundError, TryAgainError

Answer = Sequence[str] | Exception


def followed(answers: Sequence[Answer], *, lines: int = 100, over: Callable[[], bool] | None = None) -> list[str]:
    """What is told of these answers, until they are used up."""
    left = list(answers)

    def ask() -> Sequence[str]:
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    return list(follow_lines(ask, over or (lambda: not left), lines=lines, poll_s=1.0, sleep=lambda _: None))


def test_what_is_added_is_told_once() -> None:
    last = ["a 1", "a 2", "b 1", "b 1"]
    assert followed([["a 1", "b 1"], ["a 1", "a 2", "b 1"], last, last]) == ["a 1", "b 1", "a 2", "b 1"]


def test_it_begins_with_the_last_lines_of_each() -> None:
    first = [f"{name} {number}" for name in "ab" for number in range(9)]
    assert followed([first, first], lines=2) == ["a 7", "a 8", "b 7", "b 8"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(5, 20))
def test_a_window_that_moves_on_loses_and_doubles_nothing(steps: list[int], window: int) -> None:
    written: list[str] = []
    answers: list[list[str]] = []
    for step in [1, *steps, 0]:
        written += [f"r {len(written) + number}" for number in range(step)]
        answers.append(written[-window:])
    assert followed([*answers, written[-window:]]) == written


@given(st.data())
def test_lines_that_came_in_between_are_told_once(data: st.DataObject) -> None:
    """As where several files are put together by their times."""
    before = [f"r {number:03}" for number in range(0, 40, 2)]
    late = data.draw(st.lists(st.integers(0, 16), max_size=5, unique=True))
    new = sorted(f"r {2 * number + 1:03}" for number in late) + [f"r {number}" for number in range(900, 903)]
    assert sorted(fresh({"r": before}, {"r": sorted([*before, *new])})) == sorted(new)


def test_one_that_starts_anew_is_told_whole() -> None:
    """Also what its first start had said, too."""
    assert fresh({"r": ["r hello", "r 1", "r 2"]}, {"r": ["r hello", "r 7", "r 8", "r 9"]}) == [
        *("r hello", "r 7", "r 8", "r 9"),
    ]


def test_one_that_comes_again_goes_on() -> None:
    answers = [["a 1", "b 1"], ["b 1"], ["a 1", "a 2", "b 1"], ["a 1", "a 2", "b 1"]]
    assert followed(answers) == ["a 1", "b 1", "a 2"]


def test_replicas_that_are_gone_are_forgotten_in_time() -> None:
    answers = [["a 1"], *([f"b{number} 1"] for number in range(MOST_GONE + 1)), ["a 1"], ["a 1"]]
    assert followed(answers)[-1] == "a 1", "it was forgotten, so it is new"
    assert followed([["a 1"], *([f"b{number} 1"] for number in range(MOST_GONE - 1)), ["a 1"], []])[-1] != "a 1"


def test_the_end_of_the_model_is_the_end() -> None:
    gone = NotFoundError("no such model")
    assert followed([["a 1"], ["a 1", "a 2"], gone]) == ["a 1", "a 2"]
    assert followed([["a 1"], ["a 1"]], over=lambda: (_ for _ in ()).throw(gone)) == ["a 1"]
    assert followed([[]], over=lambda: True) == []


def test_faults_are_told() -> None:
    with pytest.raises(NotFoundError):
        followed([NotFoundError("never there")])
    with pytest.raises(TryAgainError):
        followed([["a 1"], TryAgainError("nobody answers")])
