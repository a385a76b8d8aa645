"""A stub engine of which no two replies are the same: each says the number of the request that it answers.

It knows a request by the tag that its client wrote into the last message, since that reaches an engine by every route.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply

__all__ = ["Asked", "NumberedEngine", "number_in"]


TAG = re.compile(r"\[([0-9a-f]{32})\]")


@dataclass(frozen=True)
class Asked:
    """A request as the engine saw it."""

    tag: str
    prompt: list[int]


class NumberedEngine:
    """A `Replier` of `tests.stand_ins.engine_stub`; `asked` has every model request by its number."""

    def __init__(self, folder: Path) -> None:
        self._engine = SmallEngine(folder, scale_out=True)
        self._numbers = itertools.count(1)
        self.asked: dict[int, Asked] = {}

    def __call__(self, path: str, body: bytes) -> StubReply:
        request = json.loads(body)
        if "messages" in request:
            prompt = self._engine.prompt_of(request)
        else:
            prompt = request.get("token_ids") or request["prompt"]
        number = next(self._numbers)
        self.asked[number] = Asked(TAG.findall(self.text(prompt))[-1], prompt)
        many = (request.get("sampling_params") or request).get("n") or 1
        self._engine.say.extend(f"This is answer {number} of choice {n}." for n in range(many))
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
