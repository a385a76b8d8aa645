"""The reply, or the answer in it, is one of the right ones."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar

from moorage.rewards.answers import MARK, Take, take_answer, without_thinking
from moorage.rewards.sample import Sample, Score

__all__ = ["ExactMatch"]


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """1 when the answer is one of the right ones as text, else 0."""

    version: ClassVar[str] = "1"
    take: Take = "whole"
    mark: str = MARK
    ignore_case: bool = False
    ignore_blanks: bool = True
    """Blanks and line ends count as one blank, and none at the ends."""
    ignore_thinking: bool = True
    """What stands before `</think>` is not looked at."""
    answer_field: str | None = None

    def __call__(self, sample: Sample) -> Score:
        answers = sample.answers(self.answer_field)
        text = without_thinking(sample.text) if self.ignore_thinking else sample.text
        # Taking the answer strips it; where blanks count, the whole text is left as it is.
        found = text if self.take == "whole" else take_answer(text, self.take, self.mark)
        matched = found is not None and self._plain(found) in [self._plain(answer) for answer in answers]
        return Score(float(matched), {"answer": None if found is None else found[:200]})

    def _plain(self, answer: Any) -> str:
        text = unicodedata.normalize("NFC", answer if isinstance(answer, str) else _as_text(answer))
        if self.ignore_blanks:
            text = " ".join(text.split())
        return text.casefold() if self.ignore_case else text


def _as_text(answer: Any) -> str:
    """A right answer that is no text, as a model would write it: 5.0 is 5, true is true."""
    if isinstance(answer, bool):
        return "true" if answer else "false"
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    return str(answer)
