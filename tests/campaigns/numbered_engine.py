"""A stub engine of which no two replies are the same: each says the number of the request that it answers."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply

__all__ = ["Asked", "NumberedEngine", "number_in"]


@dataclass(frozen=True)
class Asked:
    """A request as the engine saw it. `tag`: the request's `user`, by which its client knows it."""

    tag: str
    prompt: list[int]


class NumberedEngine:
    """A `Replier` of `tests.stand_ins.engine_stub`; `asked` has every model request by its number."""

    def __init__(self, folder: Path) -> None:
        self._engine = SmallEngine(folder)
        self._numbers = itertools.count(1)
        self.asked: dict[int, Asked] = {}

    def __call__(self, path: str, body: bytes) -> StubReply:
        request = json.loads(body)
        number = next(self._numbers)
        prompt = self._engine.prompt_of(request) if "messages" in request else request["prompt"]
        self.asked[number] = Asked(str(request.get("user")), prompt)
        self._engine.say.extend(f"This is answer {number} of choice {n}." for n in range(request.get("n") or 1))
        return self._engine(path, body)

    def text(self, ids: list[int]) -> str:
        return self._engine.decode(ids)

    def times(self, tag: str) -> int:
        """How often a client's request reached the engine."""
        return sum(asked.tag == tag for asked in [*self.asked.values()])


def number_in(text: str) -> tuple[int, int]:
    """The request's number, and the choice. Raises ValueError for a text that has none."""
    found = re.search(r"answer (\d+) of choice (\d+)\.", text)
    if found is None:
        raise ValueError(f"{text!r} is no numbered answer")
    return int(found[1]), int(found[2])
