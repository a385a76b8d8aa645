"""What probes with made-up conversations tell of a template, once, when it is loaded.

Nothing here is trusted alone: every session compares its first tails, and those of doubling turns, with full renders.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import msgspec

from moorage.engines.rendering.sentinel import Scene
from moorage.engines.rendering.tail import tail_ids, window_of, without_thoughts
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["Traits", "probe"]

PROBE_TIME = datetime(2026, 1, 2, 3, 4, 5)
MARK = "Zqprobexq"
TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}
MOST_TURNS = (0, 1, 2)
"""Windows that are tried, the shortest first."""


class Traits(msgspec.Struct, frozen=True):
    """How one template behaves with, or without, tools and a system message."""

    closer: int | None
    """The token that closes an assistant's turn, whoever speaks next; None: there is none."""
    openers: frozenset[int]
    """Without a closer: the tokens that begin the next speaker's turn."""
    end_ids: frozenset[int]
    """What ends a turn: the tokenizer's end tokens, the closer and the openers."""
    begin_ids: frozenset[int]
    """Where nothing ends what a user says: the tokens that begin it."""
    window: int | None
    """How many turns before the sampled one a window needs for its tail to be that of the full render; None: all."""
    steady: bool
    """What was rendered before stays as it is when the conversation grows, think blocks apart."""


def probe(template: ChatTemplate, tokenizer: Tokenizer, *, with_tools: bool, with_system: bool) -> Traits:
    """Render made-up conversations and see. With tools, those that a later request leaves out are probed too."""
    scenes = [Scene(tools=[TOOL], now=PROBE_TIME)] if with_tools else []
    scenes.append(Scene(now=PROBE_TIME))
    closer = _closer(template, tokenizer, scenes[0])
    openers = frozenset() if closer is not None else _openers(template, tokenizer, scenes[0])
    ends = tokenizer.eos_ids | ({closer} if closer is not None else set())
    end_ids = ends | openers
    several = [(scene, one) for scene in scenes for one in _conversations(with_tools, with_system)]

    def same(turns: int) -> bool:
        return all(_same_in_window(template, tokenizer, scene, one, turns, end_ids) for scene, one in several)

    return Traits(
        closer=closer,
        openers=openers,
        end_ids=end_ids,
        begin_ids=_begins(template, tokenizer, scenes[0], ends),
        window=next(filter(same, MOST_TURNS), None),
        steady=all(_grows(template, scene, one) for scene, one in several),
    )


def _closer(template: ChatTemplate, tokenizer: Tokenizer, scene: Scene) -> int | None:
    """The token that follows an answer both when a user speaks next and when the assistant does."""
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": MARK}
    asked = _tail(template, tokenizer, scene, [user, answer, user])
    going_on = _tail(template, tokenizer, scene, [user, answer])
    if not asked or not going_on or asked[0] != going_on[0] or asked[0] not in tokenizer.atomic_ids:
        return None
    return asked[0]


def _openers(template: ChatTemplate, tokenizer: Tokenizer, scene: Scene) -> frozenset[int]:
    tails = _tails(template, tokenizer, scene)
    return frozenset(tail[0] for tail in tails if tail and tail[0] in tokenizer.atomic_ids)


def _begins(template: ChatTemplate, tokenizer: Tokenizer, scene: Scene, ends: Collection[int]) -> frozenset[int]:
    said = _tail(template, tokenizer, scene, [{"role": "user", "content": MARK}])
    if said is None or any(token_id in ends for token_id in said):
        return frozenset()
    special = [
        [one for one in tail or () if one in tokenizer.atomic_ids and one not in ends]
        for tail in _tails(template, tokenizer, scene)
    ]
    return frozenset(found[0] for found in special if found)


def _tails(template: ChatTemplate, tokenizer: Tokenizer, scene: Scene) -> list[list[int] | None]:
    """What comes after an answer, after a call with words, and after an answer before a tool's result."""
    user, call = {"role": "user", "content": "a"}, _call(0)
    answer = {"role": "assistant", "content": MARK}
    return [
        _tail(template, tokenizer, scene, [user, answer, user]),
        _tail(template, tokenizer, scene, [user, {**call, "content": MARK}, _result(0)]),
        _tail(template, tokenizer, scene, [user, answer, _result(0)]),
    ]


def _tail(
    template: ChatTemplate, tokenizer: Tokenizer, scene: Scene, messages: list[dict[str, Any]]
) -> list[int] | None:
    try:
        text = scene.render(template, messages)
    except TemplateFault:
        return None
    _, found, after = text.partition(MARK)
    return tokenizer.encode(after) if found else None


def _same_in_window(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    scene: Scene,
    messages: list[dict[str, Any]],
    turns: int,
    end_ids: frozenset[int],
) -> bool:
    at = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
    window = window_of(messages, at, turns)
    if window is None or _refused(template, scene, messages):
        return True
    whole = tail_ids(template, tokenizer, scene, messages, at, mark=MARK, end_ids=end_ids)
    return whole == tail_ids(template, tokenizer, scene, window[0], window[1], mark=MARK, end_ids=end_ids)


def _refused(template: ChatTemplate, scene: Scene, messages: list[dict[str, Any]]) -> bool:
    """Such conversations fail when they get there."""
    try:
        scene.render(template, messages)
    except TemplateFault:
        return True
    return False


def _grows(template: ChatTemplate, scene: Scene, messages: list[dict[str, Any]]) -> bool:
    """Whether the prompt of each turn is the beginning of the next one's."""
    previous = ""
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if _refused(template, scene, messages[:place]):
            return True
        text = without_thoughts(scene.render(template, messages[:place]))
        if not text.startswith(previous):
            return False
        previous = text
    return True


def _conversations(with_tools: bool, with_system: bool) -> Iterator[list[dict[str, Any]]]:
    """Each ends with what follows an assistant's turn: a user's message, or a tool's."""
    system = [{"role": "system", "content": "s"}] if with_system else []
    for turns in (1, 2, 3, 5):
        yield [*system, *_chat(turns), {"role": "user", "content": "z"}]
        if with_tools:
            yield [*system, *_loop(turns)]
            yield [*system, *_chat(turns), *_loop(2)]
            yield [*system, *_chat(1), *_loop(turns), {"role": "assistant", "content": "b"}, *_chat(turns)[:-1]]


def _chat(turns: int) -> list[dict[str, Any]]:
    return [
        message
        for turn in range(turns)
        for message in ({"role": "user", "content": f"u{turn}"}, {"role": "assistant", "content": f"a{turn}"})
    ]


def _loop(turns: int) -> list[dict[str, Any]]:
    calls = [message for turn in range(turns) for message in (_call(turn), _result(turn))]
    return [{"role": "user", "content": "u"}, *calls]


def _call(turn: int) -> dict[str, Any]:
    function = {"name": "probe", "arguments": '{"q": "a"}'}
    call = {"id": f"call{turn:05d}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _result(turn: int) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call{turn:05d}", "name": "probe", "content": f"r{turn}"}
