"""What a request adds after a sampled turn.

The tail runs from the end of the sampled content to the end of the prompt: the turn's close, the new messages, the
header of the next turn. It is proven when it begins at a special token, since such a token is cut out of a text before
anything else is: the tail alone encodes as it does after the sampled text, whatever that is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from moorage.engines.rendering.escaping import Escape
from moorage.engines.rendering.sentinel import Scene, call_mark, content_mark
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["MOST_OVERLAP_TOKENS", "has_calls", "joint", "moves_head", "tail_ids", "window_of", "without_thoughts"]

MOST_OVERLAP_TOKENS = 8
"""How much of the tail a model may have written itself: the close, and with `ignore_eos` what follows it."""

_AROUND_THOUGHTS = re.compile(r"</?think>|\s+")

Messages = Sequence[Mapping[str, Any]]


def tail_ids(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    scene: Scene,
    messages: Messages,
    at: int,
    *,
    mark: str,
    end_ids: Collection[int],
    escape: bool = False,
) -> list[int] | None:
    """[D] what stands after the content of the assistant's message `at`; None: its beginning is not proven.

    `escape`: special tokens in what users and tools say are text.
    `end_ids`: those that end a turn; the tail of a turn that ends in a tool call is found by them.
    """
    escaped = Escape(tokenizer, messages) if escape else None
    if escaped is not None:
        messages = escaped.messages
    encode = tokenizer.encode if escaped is None else escaped.encode
    message = messages[at]
    if has_calls(message):
        # First with the calls in place: templates may look for them when they write a tool's result.
        after = _after_mark(template, scene, messages, at, call_mark(message, mark), mark)
        if after is not None:
            ids = encode(after)
            end = next((place for place, token_id in enumerate(ids) if token_id in end_ids), None)
            if end is not None:
                return ids[end:]
    after = _after_mark(template, scene, messages, at, content_mark(mark), mark)
    if after is None:
        return None
    ids = encode(after)
    return ids if not ids or ids[0] in tokenizer.atomic_ids else None


def moves_head(template: ChatTemplate, scene: Scene, messages: Messages, at: int, *, mark: str) -> bool:
    """Whether what follows message `at` changes what stands before it: templates collect instructions at the top.

    Thoughts that are left out of earlier turns do not count. True also when that cannot be told.
    """
    marked = call_mark(messages[at], mark) if has_calls(messages[at]) else content_mark(mark)
    alone = Scene(tools=scene.tools, add_generation_prompt=False, extra=scene.extra, now=scene.now)
    try:
        now, found, _ = scene.render(template, [*messages[:at], marked, *messages[at + 1 :]]).partition(mark)
        before, known, _ = alone.render(template, [*messages[:at], marked]).partition(mark)
    except TemplateFault:
        return True
    return not (found and known) or without_thoughts(now) != without_thoughts(before)


def without_thoughts(text: str) -> str:
    """The text without think tags and white space, to compare what templates write around thoughts."""
    return _AROUND_THOUGHTS.sub("", text)


def window_of(messages: Messages, at: int, turns_before: int) -> tuple[list[Mapping[str, Any]], int] | None:
    """A short conversation with the same tail after message `at`, and where that message is in it.

    It begins as the conversation does, up to the first user's message, and goes on `turns_before` assistant's turns
    before `at`, so that roles follow each other as they did. None: nothing would be left out.
    """
    head = next((place for place in range(min(4, at)) if messages[place].get("role") == "user"), None)
    if head is None:
        return None
    first = at
    for _ in range(turns_before):
        first -= 1
        while first > head and messages[first].get("role") != "assistant":
            first -= 1
    if first <= head + 1:
        return None
    return [*messages[: head + 1], *messages[first:]], at - first + head + 1


def joint(
    completion: Sequence[int],
    tail: Sequence[int],
    *,
    eos_ids: Collection[int],
    closer: int | None,
    openers: Collection[int],
) -> tuple[int, int]:
    """How a sampled turn and its tail meet: how many tokens of the turn to leave off, how many of the tail to skip.

    Turn-close tokens stand there once: what the model wrote of the tail is not written again. A model that ended its
    turn with another end token than the template's has closed it too. Only where the end token is the header of a
    speaker (GLM), and another one speaks, must it go.
    """
    if not completion or not tail:
        return 0, 0
    last = completion[-1]
    for overlap in range(min(len(completion), len(tail), MOST_OVERLAP_TOKENS), 0, -1):
        if tail[overlap - 1] == last and list(completion[-overlap:]) == list(tail[:overlap]):
            return 0, overlap
    if last not in eos_ids:
        return 0, 0
    if closer is not None and tail[0] == closer:
        return 0, 1
    return (1, 0) if last in openers else (0, 0)


def has_calls(message: Mapping[str, Any]) -> bool:
    """Whether an assistant's message calls tools, as OpenAI writes it."""
    calls = message.get("tool_calls")
    last = calls[-1] if isinstance(calls, list) and calls else None
    return isinstance(last, dict) and isinstance(last.get("function"), dict)


def _after_mark(
    template: ChatTemplate, scene: Scene, messages: Messages, at: int, marked: dict[str, Any], mark: str
) -> str | None:
    """The text after the mark; None: the template fails on it, leaves it out or writes it more than once."""
    try:
        text = scene.render(template, [*messages[:at], marked, *messages[at + 1 :]])
    except TemplateFault:
        return None
    _, found, after = text.partition(mark)
    return after if found and mark not in after else None
