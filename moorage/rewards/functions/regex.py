"""A pattern is found in the reply.

A pattern that takes for ever on some text is ended with its process, as everything that runs here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from moorage.errors import UsageError
from moorage.rewards.answers import without_thinking
from moorage.rewards.sample import Sample, Score

__all__ = ["Regex"]


@dataclass(frozen=True, kw_only=True)
class Regex:
    """`found` when the pattern is in the reply, else `missed`; a group named `answer` must be a right answer."""

    version: ClassVar[str] = "1"
    pattern: str
    """Of Python's `re`."""
    whole: bool = False
    """It must match the whole reply, blanks at its ends apart."""
    ignore_case: bool = False
    multiline: bool = False
    dotall: bool = False
    ignore_thinking: bool = False
    answer_field: str | None = None
    found: float = 1.0
    missed: float = 0.0

    def __post_init__(self) -> None:
        try:
            self._compiled()
        except (re.error, RecursionError, OverflowError) as fault:
            raise UsageError(f"pattern: {fault}", code="reward_options") from None

    def __call__(self, sample: Sample) -> Score:
        text = without_thinking(sample.text) if self.ignore_thinking else sample.text
        pattern = self._compiled()
        match = pattern.fullmatch(text.strip()) if self.whole else pattern.search(text)
        if match is None:
            return Score(self.missed, {"match": None})
        right = "answer" not in pattern.groupindex or (match["answer"] or "").strip() in [
            str(answer).strip() for answer in sample.answers(self.answer_field)
        ]
        return Score(self.found if right else self.missed, {"match": match[0][:200]})

    def _compiled(self) -> re.Pattern[str]:
        """`re` keeps what was compiled."""
        flags = (re.I, self.ignore_case), (re.M, self.multiline), (re.S, self.dotall)
        return re.compile(self.pattern, sum((flag for flag, wanted in flags if wanted), re.RegexFlag(0)))
