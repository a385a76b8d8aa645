"""What a model thought before it answered, where templates leave it out of earlier turns.

`<think> … </think>` in the content is what templates of reasoning models look for; a reasoning parser may also have
taken it out of the content, and the client may give it back beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.capture.messages import reasoning_of
from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["inner_mark", "said_after_thinking", "thinks", "thought_mark"]

OPEN, CLOSE = "<think>", "</think>"


def thought_mark(message: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """An assistant's message that says the mark, and thinks the inner mark if the message thinks."""
    inner = inner_mark(mark)
    content = message.get("content")
    if isinstance(content, str) and CLOSE in content:
        opened = f"{OPEN}\n" if OPEN in content.rpartition(CLOSE)[0] else ""
        return {"role": "assistant", "content": f"{opened}{inner}\n{CLOSE}\n\n{mark}"}
    if reasoning_of(message) is not None:
        return {"role": "assistant", "reasoning": inner, "content": mark}
    return {"role": "assistant", "content": mark}


def inner_mark(mark: str) -> str:
    """The mark of a turn's thoughts; it does not contain the turn's own mark."""
    return "T" + mark[1:]


def thinks(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Whether [C] sampled ids end a thought."""
    return CLOSE.encode() in tokenizer.join_bytes(ids)


def said_after_thinking(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int] | None:
    """What of [C] sampled ids comes after the last thought and the white space behind it.

    None: that does not begin at the beginning of a token, so it cannot be left as it is.
    """
    pieces = [tokenizer.token_bytes(token_id) for token_id in ids]
    joined = b"".join(pieces)
    begin = joined.rfind(CLOSE.encode())
    if begin < 0:
        return list(ids)
    begin += len(CLOSE)
    begin += len(joined[begin:]) - len(joined[begin:].lstrip())
    place = at = 0
    while at < begin:
        at += len(pieces[place])
        place += 1
    return list(ids[place:]) if at == begin else None
