"""The answer is mathematically the right one, as the library math-verify judges it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, ClassVar

from moorage.errors import UsageError
from moorage.extras import package_missing
from moorage.rewards.answers import without_thinking
from moorage.rewards.sample import Sample, Score

__all__ = ["MathVerify"]


@dataclass(frozen=True, kw_only=True)
class MathVerify:
    """1 when math-verify takes the answer for one of the right ones, else 0."""

    version: ClassVar[str] = "1"
    float_rounding: int = 6
    """Decimal places that count."""
    strict: bool = True
    """Variables' names count, and a set is no tuple."""
    ignore_thinking: bool = True
    answer_field: str | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise package_missing("math-verify", "the reward math needs the extra", "rewards")

    def __call__(self, sample: Sample) -> Score:
        from math_verify import parse, verify

        text = without_thinking(sample.text) if self.ignore_thinking else sample.text
        # Its own timeouts are signals; here the whole process ends when its time is over.
        found = parse(text, parsing_timeout=None)
        right = False
        for answer in sample.answers(self.answer_field):
            gold = _gold(str(answer), parse)
            right = right or verify(
                gold,
                found,
                float_rounding=self.float_rounding,
                strict=self.strict,
                timeout_seconds=None,
            )
        return Score(float(right), {"answer": str(found[0])[:200] if found else None})


def _gold(answer: str, parse: Any) -> Any:
    """Raises UsageError for a right answer that the library cannot read."""
    for text in (answer, f"${answer}$"):
        parsed = parse(text, parsing_timeout=None)
        if parsed:
            return parsed
    raise UsageError(f"math-verify cannot read the right answer {answer[:80]!r}", code="reward_input")
