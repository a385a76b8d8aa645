"""What a reward function is given, and what it gives back: the one signature of all of them.

    def word_count(sample: Sample) -> float:
        return float(len(sample.text.split()))

A function takes a `Sample` and returns a number, or a `Score` when it has more to say. One with options is a class
whose instances are called; its fields (a dataclass) or the arguments of `__init__` are the options. Its `version`, a
text, is kept with every reward that it gives. Raise UsageError for a sample that cannot be judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from moorage.errors import UsageError

__all__ = ["RewardFunction", "Sample", "Score"]

ANSWER_PLACES = ("ground_truth", "reward_model.ground_truth", "answer", "solution", "target")
"""Where data sets keep the right answer, the first that is there."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One reply to judge, with what the data set says of its task."""

    response: str | None = None
    """The reply's text; None: only ids were given, and nothing here can read them."""
    messages: list[dict[str, Any]] | None = None
    """The whole conversation, the reply last; None: ids were given."""
    prompt_ids: list[int] | None = None
    """[P]; None: messages were given."""
    response_ids: list[int] | None = None
    """[R]."""
    trajectory_uid: str | None = None
    num_turns: int | None = None
    dataset_fields: dict[str, Any] = {}
    """Of the task: `ground_truth` and whatever else. Without any, the trajectory's metadata."""
    extra_fields: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """The reply's text. Raises UsageError when there is none."""
        if self.response is None:
            raise UsageError(
                "the reply's text is not known",
                code="reward_input",
                hint="send messages or response_text, or start the gateway with --tokenizer-path",
            )
        return self.response

    def field(self, path: str) -> Any:
        """What stands under a name, or under names joined by dots, in dataset_fields, else in extra_fields; or None."""
        found = _at(self.dataset_fields, path)
        return found if found is not None else _at(self.extra_fields, path)

    def answers(self, place: str | None = None) -> list[Any]:
        """The right answers: what stands at `place` (None: the usual places), as a list of at least one.

        Raises UsageError when there is none.
        """
        places = (place,) if place is not None else ANSWER_PLACES
        found = next((value for name in places if (value := self.field(name)) is not None), None)
        answers = found if isinstance(found, list) else [] if found is None else [found]
        if not answers:
            raise UsageError(
                f"there is no right answer to compare with: dataset_fields has no {' or '.join(places)}",
                code="reward_input",
            )
        return answers


class Score(msgspec.Struct, frozen=True):
    """A reward, and what else is worth knowing (JSON values)."""

    reward: float
    info: dict[str, Any] = {}


class RewardFunction(Protocol):
    """What is called with a sample. It runs in a process of its own and may take its time."""

    def __call__(self, sample: Sample) -> float | Score: ...


def _at(fields: Mapping[str, Any], path: str) -> Any:
    if path in fields:
        return fields[path]
    value: Any = fields
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value
