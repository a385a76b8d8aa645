"""Whether an engine makes the same ids of a conversation as this tokenizer and template do: what to ask it.

A gateway that has another tokenizer than its engine would send wrong ids in exact sessions, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.engines.rendering.checking.parting import first_difference
from moorage.engines.rendering.template import TemplateFault

if TYPE_CHECKING:
    from moorage.engines.rendering.plan import Renderer

__all__ = ["Difference", "Question", "questions"]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a place.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["place"],
            },
        },
    }
]
USER = {"role": "user", "content": "What is one and one?"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "Two."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00000",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"place": "Münster", "days": 2}'},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call00000", "content": '{"sky": "clear"}'}
LETTERS = {"role": "user", "content": " Ünï-cödé, naïve cafe\u0301:\r\n\t你好世界 🙂🇺🇳 1234567 x²+½  if(a<=b){}\n"}

CONVERSATIONS: tuple[tuple[str, list[dict[str, Any]], bool], ...] = (
    ("a question", [USER], False),
    ("a system message", [SYSTEM, USER], False),
    ("several turns", [USER, ANSWER, {"role": "user", "content": "And two and two?"}], False),
    ("letters of many kinds", [LETTERS], False),
    ("tools", [USER], True),
    ("a tool's result", [USER, CALL, RESULT], True),
)
"""(name, messages, with tools)."""

CLOCKS = (timedelta(0), timedelta(minutes=-1), timedelta(days=-1), timedelta(days=1))
"""An engine may be a minute late, or have the date of another time zone."""

SHOWN = 8
"""Ids told of each side of a difference."""


class Difference(msgspec.Struct, frozen=True):
    """The first one that was seen."""

    conversation: str
    token: int
    """Where the ids part."""
    ours: list[int]
    """The ids from shortly before that place on, the gateway's; empty: its template refuses the conversation."""
    theirs: list[int]
    """The engine's; empty: it refuses the conversation."""
    our_text: str
    their_text: str
    """Both as this tokenizer reads them."""


class Question(msgspec.Struct, frozen=True):
    """One conversation."""

    name: str
    messages: list[dict[str, Any]]
    tools: list[Any] | None
    text: str | None
    """As this template writes it now; None: it refuses it."""
    ids: list[list[int]]
    """Every answer that is right: several for a template that writes the time; none where it refuses."""

    def difference(self, renderer: Renderer, theirs: Sequence[int] | None) -> Difference | None:
        """What parts the engine's [N] ids from ours; None for `theirs`: it refuses. None: nothing does."""
        said = list(theirs or [])
        if said in self.ids or (theirs is None and not self.ids):
            return None
        ours = self.ids[0] if self.ids else []
        at = first_difference(ours, said) or 0
        first = max(0, at - SHOWN // 2)
        our_part, their_part = ours[first : first + SHOWN], said[first : first + SHOWN]
        return Difference(self.name, at, our_part, their_part, _read(renderer, our_part), _read(renderer, their_part))


def questions(renderer: Renderer, now: datetime) -> list[Question]:
    """What an engine is to be asked. `now`: the gateway's local time."""
    return [_question(renderer, name, messages, tools, now) for name, messages, tools in CONVERSATIONS]


def _question(
    renderer: Renderer, name: str, messages: list[dict[str, Any]], with_tools: bool, now: datetime
) -> Question:
    tools = TOOLS if with_tools else None
    texts: list[str] = []
    for step in CLOCKS:
        try:
            text = renderer.template.render(messages, tools=tools, now=now + step)
        except TemplateFault:
            break
        if text not in texts:
            texts.append(text)
    ids = [renderer.tokenizer.encode_whole(text) for text in texts]
    return Question(name, messages, tools, texts[0] if texts else None, ids)


def _read(renderer: Renderer, ids: Sequence[int]) -> str:
    known = [one for one in ids if 0 <= one < 1 << 32 and renderer.tokenizer.in_vocabulary([one])]
    return renderer.tokenizer.decode(known, skip_special=False)
