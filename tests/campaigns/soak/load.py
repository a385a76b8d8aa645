"""What all clients of a soak share: the pace, what was answered, what was seen."""

from __future__ import annotations

import asyncio
import json
import re
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.findings import Findings
from tests.campaigns.soak.wire import Answer, Wire

__all__ = ["Load", "Pace", "numbers_in", "said_of"]


class Pace:
    """So many model calls a second, all clients together; None: as fast as they can."""

    def __init__(self) -> None:
        self.calls_s: float | None = None
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until the next call may begin."""
        if self.calls_s is None:
            return
        now = time.monotonic()
        self._next = max(self._next + 1 / self.calls_s, now - 1.0)  # what was missed is not made up for
        if self._next > now:
            await asyncio.sleep(self._next - now)


@dataclass
class Load:
    """`ending`: nothing new is begun."""

    port: int
    findings: Findings
    engine_ports: list[int]
    pace: Pace = field(default_factory=Pace)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    faulty: bool = False
    """Whether engines and clients are at fault now and then: not while it is calibrated."""
    calls: int = 0
    """Model calls that were begun."""
    took_s: array[float] = field(default_factory=lambda: array("d"))
    """Of whole model calls that were answered 200, since this was emptied last."""
    answered: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """uid → (number, choice) of the replies whose last byte came."""
    submitted: Counter[str] = field(default_factory=Counter)
    """uid → steps that were accepted."""
    statuses: Counter[int] = field(default_factory=Counter)
    acked: set[tuple[str, str]] = field(default_factory=set)
    """(channel, prompt_uid)"""

    @property
    def spoiled(self) -> tuple[int, ...]:
        """What a model call may be answered: an engine's faults come through, and are for nobody else."""
        return (200, 400, 429, 500, 502, 503, 504) if self.faulty else (200,)

    async def ask(
        self, wire: Wire, method: str, path: str, body: Any = None, *, allowed: tuple[int, ...] = (200,)
    ) -> Answer:
        """What is no model call. A status that is not allowed is a finding; so is a connection that broke."""
        try:
            answer = await wire.ask(method, path, body)
        except (OSError, EOFError) as fault:
            self.findings.fault(f"{method} {path} was not answered whole: {fault!r}")
            raise
        if answer.status not in allowed:
            self.findings.fault(f"{method} {path} was answered {answer.status}: {answer.body[:300]!r}")
        return answer

    async def call(
        self, wire: Wire, uid: str, path: str, body: dict[str, Any], key: str | None = None
    ) -> list[str] | None:
        """A model call; what each choice said, None: it failed, or its end did not come."""
        await self.pace.turn()
        self.calls += 1
        began = time.perf_counter()
        headers = {} if key is None else {"idempotency-key": key}
        try:
            answer = await wire.ask("POST", path, body, headers)
        except (OSError, EOFError) as fault:
            self.findings.fault(f"a call to {path} was not answered whole: {fault!r}")
            return None
        self.statuses[answer.status] += 1
        if answer.status in self.spoiled and answer.status != 200 and _is_scripted(answer):
            return None
        if answer.status != 200:
            self.findings.fault(f"a call to {path} was answered {answer.status}: {answer.body[:300]!r}")
            return None
        texts = said_of(answer, body)
        if texts is None:
            self.findings.count("streams that ended with an error event, for the engine's fault")
            return None
        self.took_s.append(time.perf_counter() - began)
        numbers = [numbers_in(text) for text in texts]
        expected = [(numbers[0][0], choice) for choice in range(body.get("n", 1))]
        if self.findings.check(numbers == expected, f"{uid} was answered {texts}") and uid:
            known = self.answered.setdefault(uid, [])
            known += [one for one in numbers if one not in known]
        return texts


def _is_scripted(answer: Answer) -> bool:
    """A 4xx is the engine's own only when it says what the engine was told to."""
    return answer.status >= 500 or b"scripted" in answer.body


def said_of(answer: Answer, body: dict[str, Any]) -> list[str] | None:
    """The content of each choice; None: the stream has no regular end."""
    if not body.get("stream"):
        return [_text(choice) for choice in answer.json()["choices"]]
    events = answer.events
    if events[-1:] != ["[DONE]"]:
        return None
    texts = [""] * body.get("n", 1)
    for event in map(json.loads, events[:-1]):
        if "error" in event:
            return None
        for choice in event["choices"]:
            texts[choice["index"]] += _text(choice)
    return texts


def numbers_in(text: str) -> tuple[int, int]:
    """The reply's number and choice; (0, 0): it has none."""
    found = re.search(r"answer (\d+) of choice (\d+)\.", text)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))


def _text(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return str(choice["text"] or "")
    said = choice.get("message") or choice.get("delta") or {}
    return str(said.get("content") or "")
