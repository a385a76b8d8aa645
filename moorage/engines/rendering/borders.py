"""Where a text can be cut so that what is on both sides encodes by itself, whatever the text beyond the cut is.

Added tokens are cut out of a text before anything else is done to it: the leftmost first, the longest of those that
begin at one place. What is between two of them is normalized, split and encoded on its own. So a cut beside such a
token changes nothing, unless another token's text could lie across the cut, or could take white space from beyond it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import tokenizers

__all__ = ["Borders"]

Span = tuple[int, int]


class Borders:
    """Of one tokenizer."""

    def __init__(self, added: Iterable[tuple[int, tokenizers.AddedToken]], *, usable: bool) -> None:
        """`usable`: the tokenizer puts nothing before the first word of a text."""
        tokens = [(token_id, token) for token_id, token in added if token.content]
        self.usable: bool = usable and not any(token.single_word for _, token in tokens)
        """False: no cut is proven. A token that is only one beside other words looks beyond every cut."""
        self._clean = {token_id: token.content for token_id, token in tokens if _is_clean(token)}
        self._texts = sorted(token.content for _, token in tokens)
        self._turned = sorted(text[::-1] for text in self._texts)
        self._longest = max(map(len, self._texts), default=0)

    def span(
        self, text: str, ids: Sequence[int], offsets: Sequence[Span], *, begins: bool = False, ends: bool = False
    ) -> Span | None:
        """The part of a text, encoded as [N] `ids` at `offsets`, that is the same between any two texts; None: none.

        It begins and ends with a token. `begins`: nothing comes before the text; `ends`: nothing comes after it.
        """
        if not self.usable:
            return None
        places = [
            (start, end)
            for token_id, (start, end) in zip(ids, offsets, strict=True)
            if text[start:end] == self._clean.get(token_id)
        ]
        first = 0 if begins else next((start for start, _ in places if self._opens(text[start:])), None)
        last = len(text) if ends else next((end for _, end in reversed(places) if self._closes(text[:end])), None)
        return (first, last) if first is not None and last is not None and first < last else None

    def bounded(self, ids: Sequence[int], *, begins: bool, ends: bool) -> bool:
        """Whether [N] ids begin and end with tokens that a cut can be beside, where something is beyond."""
        return bool(ids) and (begins or ids[0] in self._clean) and (ends or ids[-1] in self._clean)

    def _closes(self, text: str) -> bool:
        """Whether no token can begin in the text and go on after it. One that begins before it, `_opens` would see."""
        return not _meets(text, self._texts, self._longest)

    def _opens(self, text: str) -> bool:
        """Whether no token can begin before the text and go on in it, or after it."""
        return not (_meets(text[::-1], self._turned, self._longest) or any(text in one[1:-1] for one in self._texts))


def _meets(text: str, ordered: Sequence[str], longest: int) -> bool:
    """Whether the text ends with a part of the beginning of one of the `ordered` texts, but not with all of it."""
    for start in range(max(0, len(text) - longest), len(text)):
        ending = text[start:]
        at = bisect_left(ordered, ending)
        if at < len(ordered) and ordered[at] == ending:
            at += 1
        if at < len(ordered) and ordered[at].startswith(ending):
            return True
    return False


def _is_clean(token: tokenizers.AddedToken) -> bool:
    flagged = token.lstrip or token.rstrip or token.single_word or token.normalized
    return not flagged and token.content == token.content.strip()
