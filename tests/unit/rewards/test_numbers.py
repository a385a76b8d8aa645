"""Laws of reading numbers: however one is written, it is read as that number, and nothing else is a number."""

from __future__ import annotations

import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.rewards.functions.numeric import Numeric
from moorage.rewards.numbers import Number, last_number, read_number
from moorage.rewards.sample import Sample

DECIMALS = st.decimals(-(10**12), 10**12, allow_nan=False, allow_infinity=False, places=4)


def judge(said: str, right: object, **options: float | bool | str) -> float:
    sample = Sample(response=said, dataset_fields={"ground_truth": right})
    return Numeric(**options)(sample).reward  # type: ignore[arg-type]


@given(DECIMALS, st.sampled_from([",", "", " ", "_", "\u202f"]), st.sampled_from(["-", "\u2212"]))
def test_grouping_and_minus_change_nothing(value: Decimal, group: str, minus: str) -> None:
    written = f"{value:,f}".replace(",", group).replace("-", minus)
    found = read_number(written)
    assert found is not None
    assert found.value == Fraction(value)
    last = last_number(f"so it is {written}.")
    assert last is not None
    assert last.value == Fraction(value)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_fractions(top: int, bottom: int) -> None:
    for written in (
        f"{top}/{bottom}",
        f"{top} / {bottom}",
        f"{'-' if top < 0 else ''}\\frac{{{abs(top)}}}{{{bottom}}}",
    ):
        found = read_number(written)
        assert found is not None
        assert found.value == Fraction(top, bottom)
    assert judge(f"\\boxed{{\\frac{{{abs(top)}}}{{{bottom}}}}}", f"{abs(top)}/{bottom}") == 1.0


@given(DECIMALS)
def test_percent_is_a_hundredth(value: Decimal) -> None:
    for written in (f"{value:f}%", f"{value:f} %", f"{value:f}\\%"):
        found = read_number(written)
        assert found is not None
        assert found.value == Fraction(value) / 100
        assert found.is_percent


@given(st.floats(-1e30, 1e30, allow_nan=False))
def test_a_float_is_itself(value: float) -> None:
    assert judge(repr(value), value) == 1.0
    assert judge(f"The answer is {value!r}", repr(value)) == 1.0


@given(DECIMALS, DECIMALS, st.floats(0, 10), st.floats(0, 10))
def test_tolerance_is_symmetric_and_grows(a: Decimal, b: Decimal, small: float, more: float) -> None:
    one, other = Number(Fraction(a)), Number(Fraction(b))
    narrow, wide = Numeric(abs_tol=small, rel_tol=0), Numeric(abs_tol=small + more, rel_tol=0)
    assert narrow.equal(one, other) is narrow.equal(other, one)
    assert narrow.equal(one, one)
    assert not narrow.equal(one, other) or wide.equal(one, other)
    assert narrow.equal(one, other) is (abs(Fraction(a) - Fraction(b)) <= Fraction(small))


@pytest.mark.parametrize(
    ("said", "right", "reward"),
    [
        ("12", 12, 1),
        ("12.0", "12", 1),
        ("$1,234.50", "1234.5", 1),
        ("1 3/4", "1.75", 1),
        ("-1 3/4", "-1.75", 1),
        ("3.5e2", "350", 1),
        ("12 km/h", "12", 1),
        ("25 %", "0.25", 1),
        ("25%", "25", 0),
        ("<think>the answer is 5</think> 6", "6", 1),
        ("<think>the answer is 6", "6", 1),
        ("first 3, then 4", "4", 1),
        ("x = 10-4", "4", 1),
        ("x_2", "2", 1),
        ("1,2345", "2345", 1),
        ("on 2024-01-05", "5", 1),
        ("it is \\boxed{42} as 6*7", "42", 1),
        ("#### 1,000\nthat is all 7", "1000", 1),
        ("<answer> 9 </answer> 8", "9", 1),
        ("no idea", "1", 0),
        ("", "1", 0),
        ("1/0", "1", 0),
        ("1e999999999", "1", 0),
        ("9" * 5000, "1", 0),
        ("Solved: 5", "He has 2 + 3 = 5.\n#### 5", 1),
        ("5", ["4", "5"], 1),
        ("5", 5.0000001, 1),
        ("5", True, 422),
        ("5", "five", 422),
        ("5", {"a": 5}, 422),
    ],
)
def test_as_people_write(said: str, right: object, reward: int) -> None:
    if reward == 422:
        with pytest.raises(Exception, match="no number"):
            judge(said, right)
        return
    assert judge(said, right) == reward


def test_percent_of_either() -> None:
    assert judge("25%", "25", percent_of_either=True) == 1.0
    assert judge("25", "25%", percent_of_either=True) == 1.0
    assert judge("0.25", "25%", percent_of_either=True) == 1.0
    assert judge("25%", "2500", percent_of_either=True) == 0.0


@given(st.text(max_size=60))
def test_any_text_is_read_or_not(text: str) -> None:
    for found in (read_number(text), last_number(text)):
        assert found is None or isinstance(found.value, Fraction)


@pytest.mark.parametrize(
    "piece", ["1,111", "1 ", "-", "1/", "1 1/", "\\frac{1}{", "$", "1e", "%", "a1", "<answer>", "\\boxed{"]
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    began = time.perf_counter()
    judge(piece * 50_000, "1")
    assert time.perf_counter() - began < 5
