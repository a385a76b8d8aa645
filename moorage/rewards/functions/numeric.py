"""The answer is the right number, however it is written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from moorage.errors import UsageError
from moorage.rewards.answers import MARK, Take, take_answer, without_thinking
from moorage.rewards.numbers import Number, last_number, read_number
from moorage.rewards.sample import Sample, Score

__all__ = ["Numeric"]


@dataclass(frozen=True, kw_only=True)
class Numeric:
    """1 when the answer is one of the right numbers within the tolerance, else 0."""

    version: ClassVar[str] = "1"
    abs_tol: float = 1e-9
    rel_tol: float = 1e-6
    """Of the right number."""
    take: Take = "auto"
    """Of what is taken the last number counts."""
    mark: str = MARK
    percent_of_either: bool = False
    """50% is also 50, besides 0.5."""
    ignore_thinking: bool = True
    answer_field: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("abs_tol", self.abs_tol), ("rel_tol", self.rel_tol)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name} is {value}: a number of at least 0", code="reward_options")

    def __call__(self, sample: Sample) -> Score:
        right = [_right(answer) for answer in sample.answers(self.answer_field)]
        text = without_thinking(sample.text) if self.ignore_thinking else sample.text
        taken = take_answer(text, self.take, self.mark)
        found = None if taken is None else read_number(taken) or last_number(taken)
        if found is None:
            return Score(0.0, {"answer": None})
        return Score(float(any(self.equal(found, one) for one in right)), {"answer": _shown(found)})

    def equal(self, found: Number, right: Number) -> bool:
        """Whether they are one number within the tolerance."""
        if self._near(found.value, right.value):
            return True
        if not self.percent_of_either or found.is_percent is right.is_percent:
            return False
        factor = Fraction(100) if found.is_percent else Fraction(1, 100)
        return self._near(found.value * factor, right.value)

    def _near(self, found: Fraction, right: Fraction) -> bool:
        return abs(found - right) <= max(Fraction(self.abs_tol), Fraction(self.rel_tol) * abs(right))


def _right(answer: Any) -> Number:
    number = None
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        number = read_number(repr(answer))
    elif isinstance(answer, str):
        # GSM8K's answers are whole solutions with the number behind a mark.
        number = read_number(answer) or last_number(take_answer(answer, "auto") or "")
    if number is None:
        raise UsageError(f"the right answer {str(answer)[:80]!r} is no number", code="reward_input")
    return number


def _shown(number: Number) -> float | str:
    try:
        return float(number.value)
    except OverflowError:
        return str(number.value)[:80]
