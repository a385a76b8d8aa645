"""The whole conversation rendered anew, with the tokens of sampled turns left in their places.

For prompts whose beginning changes: other tools, a template that moves or strips what it wrote before. Every sampled
turn is rendered as a mark; the texts between the marks are encoded, and the recorded ids stand between them. Two
things prove the bounds of a turn:

- what follows it begins at a special token (or with nothing);
- what stands before it ends with the very ids that the model was given before it sampled.

A turn whose bounds are not proven is rendered as text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from moorage.engines.rendering.escaping import Escape
from moorage.engines.rendering.sentinel import Scene, call_mark, content_mark, mark_of
from moorage.engines.rendering.tail import has_calls, joint
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.thoughts import inner_mark, said_after_thinking, thought_mark
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.rendering.traits import Traits

__all__ = ["SampledTurn", "Splicer"]


MOST_SYNTAX_TOKENS = 512
"""How much of a turn a template may write before the mark: other calls of the same turn, above all."""

MOST_TRIES = 4
"""Each leaves out the turns that the one before did not prove; a template that proves none is not tried for ever."""

MOST_OPENING_TOKENS = 16
"""How long the beginning of an answer is that a template writes for the model."""

Messages = Sequence[Mapping[str, Any]]


class SampledTurn(msgspec.Struct, frozen=True):
    """An assistant's message that a call of the session sampled."""

    at: int
    """Which message."""
    completion: list[int]
    """[C] what was sampled."""
    before: list[int]
    """The last ids of the prompt it was sampled after."""


class _Piece(msgspec.Struct, frozen=True):
    """A turn in the render."""

    turn: SampledTurn
    ids: list[int]
    """What stands for the turn: its completion, or the part of it that the template keeps."""
    begin: int
    """Where the text before it ends."""
    end: int
    """Where the text after it begins."""
    in_call: bool
    """The mark stands in the turn's last call: the rest of the call's syntax comes after it, up to an end token."""
    as_rendered: bool
    """The text before it is all the template's, and stays."""


class Splicer:
    """For one request."""

    def __init__(
        self, template: ChatTemplate, tokenizer: Tokenizer, scene: Scene, traits: Traits, escape: Escape | None
    ) -> None:
        self._template, self._tokenizer, self._scene = template, tokenizer, scene
        self._traits, self._escape = traits, escape

    def splice(self, messages: Messages, turns: Sequence[SampledTurn], key: bytes, *, as_rendered: bool) -> list[int]:
        """[P] the prompt. `as_rendered`: thoughts that the template leaves out are left out.

        `key` makes the marks (`mark_of`). Raises TemplateFault when the template refuses the messages themselves.
        """
        kept = list(turns)
        for _ in range(MOST_TRIES):
            if not kept:
                break
            ids, unproven = self._try(messages, kept, key, as_rendered)
            if ids is not None and not (as_rendered and self._differs(messages, ids)):
                return ids
            if ids is not None:
                break
            kept = [turn for turn in kept if turn.at not in unproven]
        return self._encode(self._scene.render(self._template, messages), first=True)

    def _try(
        self, messages: Messages, turns: list[SampledTurn], key: bytes, as_rendered: bool
    ) -> tuple[list[int] | None, set[int]]:
        """The prompt, or None and the turns that cannot stand in it."""
        found = self._render(messages, turns, key, as_rendered)
        if found is None:
            return None, {turn.at for turn in turns}
        text, pieces, unproven = found
        ids: list[int] = []
        at = 0
        previous: _Piece | None = None
        for piece in [*pieces, None]:
            between = self._encode(text[at:] if piece is None else text[at : piece.begin], first=previous is None)
            known = len(ids)
            if previous is not None and not self._after(ids, between, previous):
                unproven.add(previous.turn.at)
            elif previous is None:
                ids += between
            if piece is None:
                break
            if not (piece.as_rendered or self._opens(ids, max(0, len(ids) - known), piece.turn)):
                unproven.add(piece.turn.at)
            ids += piece.ids
            at, previous = piece.end, piece
        return (None if unproven else ids), unproven

    def _after(self, ids: list[int], more: list[int], previous: _Piece) -> bool:
        """Add what follows a turn; False: its beginning is not proven."""
        traits = self._traits
        if previous.in_call:
            end = next((place for place, token_id in enumerate(more) if token_id in traits.end_ids), None)
            if end is None:
                return False
            more = more[end:]
        if more and more[0] not in self._tokenizer.atomic_ids:
            return False
        off, skip = joint(
            previous.ids, more, eos_ids=self._tokenizer.eos_ids, closer=traits.closer, openers=traits.openers
        )
        if off:
            del ids[-off:]
        ids += more[skip:]
        return True

    def _opens(self, ids: list[int], added: int, turn: SampledTurn) -> bool:
        bounds = self._traits.end_ids | self._traits.begin_ids
        return _open(ids, added, turn.before, self._tokenizer.atomic_ids, bounds)

    def _render(
        self, messages: Messages, turns: list[SampledTurn], key: bytes, as_rendered: bool
    ) -> tuple[str, list[_Piece], set[int]] | None:
        """The render with marks, the turns in it, and those that it does not show once; None: it fails.

        First without calls, since a mark in the content shows both bounds; some templates need the calls, though.
        """
        for with_calls in (False, True):
            marked = [*messages]
            for turn in turns:
                marked[turn.at] = _marked(messages[turn.at], mark_of(key, turn.at), with_calls, as_rendered)
            try:
                text = self._scene.render(self._template, marked)
            except TemplateFault:
                continue
            pieces = [self._piece(text, marked[turn.at], turn, mark_of(key, turn.at), as_rendered) for turn in turns]
            shown = sorted((piece for piece in pieces if piece is not None), key=lambda piece: piece.begin)
            if len(shown) == len(turns) or with_calls:
                return text, shown, {turn.at for turn, piece in zip(turns, pieces, strict=True) if piece is None}
        return None

    def _piece(
        self, text: str, marked: Mapping[str, Any], turn: SampledTurn, mark: str, as_rendered: bool
    ) -> _Piece | None:
        if text.count(mark) != 1:
            return None
        begin = text.index(mark)
        end = begin + len(mark)
        ids: list[int] | None = turn.completion
        in_call = has_calls(marked)
        inner = inner_mark(mark)
        if as_rendered and not in_call:
            if inner in text:
                begin, as_rendered = text.index(inner), False
            else:
                ids = said_after_thinking(self._tokenizer, turn.completion)
        if ids is None or begin > end:
            return None
        return _Piece(turn, ids, begin, end, in_call, as_rendered and not in_call)

    def _differs(self, messages: Messages, ids: list[int]) -> bool:
        """Whether `ids` are another text than the template writes for the messages as they are."""
        whole = self._encode(self._scene.render(self._template, messages), first=True)
        decode = self._tokenizer.decode
        return whole != ids and decode(whole, skip_special=False) != decode(ids, skip_special=False)

    def _encode(self, text: str, *, first: bool) -> list[int]:
        by = self._tokenizer if self._escape is None else self._escape
        return by.encode_whole(text) if first else by.encode(text)


def _marked(message: Mapping[str, Any], mark: str, with_calls: bool, as_rendered: bool) -> dict[str, Any]:
    if with_calls and has_calls(message):
        return call_mark(message, mark)
    return thought_mark(message, mark) if as_rendered else content_mark(mark)


def _open(ids: list[int], added: int, before: Sequence[int], atomic: Collection[int], bounds: Collection[int]) -> bool:
    """Make the last `added` of `ids` end as what the model was given before it sampled; False: they do not.

    Templates may begin an answer for the model (`<think>`) and leave that out of earlier turns, or write for earlier
    turns what the model writes itself (a channel, a call's syntax): the one is put in, the other taken off. The ends
    are laid side by side where they agree longest, back to a special token at least: the turn's header. What another
    one said is never exchanged: `bounds` are the tokens that end or begin a turn.
    """
    best: tuple[int, int, int] = (0, 0, 0)
    for off in range(_until(ids, min(added, MOST_SYNTAX_TOKENS), bounds) + 1):
        for more in range(_until(before, MOST_OPENING_TOKENS, bounds) + 1):
            if more and before[-more] not in atomic:
                continue
            agree = _common_suffix(ids, len(ids) - off, before, len(before) - more)
            if agree > best[0]:
                best = (agree, off, more)
    agree, off, more = best
    end = len(before) - more
    if not any(token_id in atomic for token_id in before[end - agree : end]):
        return False
    if off:
        del ids[-off:]
    ids += before[end:]
    return True


def _until(ids: Sequence[int], most: int, bounds: Collection[int]) -> int:
    """How many tokens from the end belong to one turn for sure, at most `most`."""
    for back in range(1, min(most, len(ids)) + 1):
        if ids[-back] in bounds:
            return back - 1
    return min(most, len(ids))


def _common_suffix(a: Sequence[int], a_end: int, b: Sequence[int], b_end: int) -> int:
    shared = 0
    while shared < a_end and shared < b_end and a[a_end - 1 - shared] == b[b_end - 1 - shared]:
        shared += 1
    return shared
