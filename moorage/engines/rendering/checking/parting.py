"""Where two texts part, and where their ids do."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.engines.rendering.checking.finding import Example, Side
from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["first_difference", "parting"]


def parting(tokenizer: Tokenizer, left: tuple[str, str], right: tuple[str, str]) -> Example:
    """The example of two (label, text)."""
    sides = [Side(label, text, tokenizer.encode_whole(text)) for label, text in (left, right)]
    return Example(
        sides[0],
        sides[1],
        first_difference(sides[0].text, sides[1].text),
        first_difference(sides[0].ids, sides[1].ids),
    )


def first_difference(left: Sequence[object], right: Sequence[object]) -> int | None:
    """The first place where they differ, or where one ends that the other goes on from; None: they are equal."""
    shared = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    if shared is not None:
        return shared
    return None if len(left) == len(right) else min(len(left), len(right))
