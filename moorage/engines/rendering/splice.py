"""The whole conversation rendered anew, with the tokens of sampled turns left in their places.

For prompts whose beginning changes: other tools, a template that moves or strips what it wrote before. Every sampled
turn is rendered as a mark; the texts between the marks are encoded, and the recorded ids stand between them. Two
things prove the bounds of a turn:

- what follows it begins at a special token (or with nothing);
- what stands before it ends with the very ids that the model was given before it sampled, back to the last special
  token.

A turn whose bounds are not proven is rendered as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from moorage.engines.rendering.escaping import Escape
from moorage.engines.rendering.sentinel import Scene, call_mark, content_mark, mark_of
from moorage.engines.rendering.tail import has_calls, joint
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.thoughts import said_after_thinking, thought_mark
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.rendering.traits import Traits

__all__ = ["SampledTurn", "Splicer"]


class SampledTurn(msgspec.Struct, frozen=True):
    """An assistant's message that a call of the session sampled."""

    at: int
    """Which message."""
    completion: list[int]
    """[C] what was sampled."""
    before: list[int]
    """The last ids of the prompt it was sampled after."""


class _Piece(msgspec.Struct, frozen=True):
    """A turn in the render: where the text before it ends, and where the text after it begins."""

    turn: SampledTurn
    ids: list[int]
    """What stands for the turn: its completion, or the part of it that the template keeps."""
    begin: int
    end: int


class Splicer:
    """For one request."""

    def __init__(
        self, template: ChatTemplate, tokenizer: Tokenizer, scene: Scene, traits: Traits, escape: Escape | None
    ) -> None:
        self._template, self._tokenizer, self._scene = template, tokenizer, scene
        self._traits, self._escape = traits, escape

    def splice(
        self, messages: Sequence[Mapping[str, Any]], turns: Sequence[SampledTurn], key: bytes, *, as_rendered: bool
    ) -> list[int]:
        """[P] the prompt. `as_rendered`: thoughts that the template leaves out are left out.

        `key` makes the marks (`mark_of`). Raises TemplateFault when the template refuses the messages themselves.
        """
        kept = list(turns)
        while kept:
            ids, unproven = self._try(messages, kept, key, as_rendered=as_rendered)
            if ids is not None:
                return self._checked(messages, ids) if as_rendered else ids
            kept = [turn for turn in kept if turn.at not in unproven]
        return self._encode(self._scene.render(self._template, messages), first=True)

    def _try(
        self, messages: Sequence[Mapping[str, Any]], turns: list[SampledTurn], key: bytes, *, as_rendered: bool
    ) -> tuple[list[int] | None, set[int]]:
        """The prompt, or the turns that cannot stand in it."""
        found = self._render(messages, turns, key, as_rendered=as_rendered)
        if found is None:
            return None, {turn.at for turn in turns}
        text, pieces, unproven = found
        if unproven:
            return None, unproven
        ids: list[int] = []
        at, previous = 0, None
        for piece in pieces:
            between = self._encode(text[at : piece.begin], first=previous is None)
            if previous is not None and between and between[0] not in self._tokenizer.atomic_ids:
                unproven.add(previous.turn.at)
            self._join(ids, between, previous)
            opening = self._opening(between, piece.turn.before)
            if opening is None:
                unproven.add(piece.turn.at)
            else:
                ids += opening
            ids += piece.ids
            at, previous = piece.end, piece
        rest = self._encode(text[at:], first=previous is None)
        if previous is not None and rest and rest[0] not in self._tokenizer.atomic_ids:
            unproven.add(previous.turn.at)
        self._join(ids, rest, previous)
        return (None if unproven else ids), unproven

    def _join(self, ids: list[int], more: list[int], previous: _Piece | None) -> None:
        off = skip = 0
        if previous is not None:
            traits = self._traits
            off, skip = joint(
                previous.ids, more, eos_ids=self._tokenizer.eos_ids, closer=traits.closer, openers=traits.openers
            )
        if off:
            del ids[-off:]
        ids += more[skip:]

    def _opening(self, ids: list[int], before: list[int]) -> list[int] | None:
        """What the model was given of the turn's header beyond `ids`; None: it was given another header.

        Some templates begin an answer for the model (`<think>`) and leave that out of earlier turns.
        """
        atomic = self._tokenizer.atomic_ids
        start = next((place for place in range(len(ids) - 1, -1, -1) if ids[place] in atomic), 0)
        header = ids[start:]
        if not header:
            return None
        for place in range(len(before) - len(header), -1, -1):
            if before[place : place + len(header)] == header:
                return before[place + len(header) :]
        return None

    def _render(
        self, messages: Sequence[Mapping[str, Any]], turns: list[SampledTurn], key: bytes, *, as_rendered: bool
    ) -> tuple[str, list[_Piece], set[int]] | None:
        """The render with marks, the turns in it, and those that the render does not show; None: it fails."""
        for with_calls in (False, True):
            marked = [*messages]
            for turn in turns:
                marked[turn.at] = self._marked(messages[turn.at], mark_of(key, turn.at), with_calls, as_rendered)
            try:
                text = self._scene.render(self._template, marked)
            except TemplateFault:
                continue
            pieces: list[_Piece] = []
            unproven: set[int] = set()
            for turn in turns:
                piece = self._piece(text, messages[turn.at], turn, mark_of(key, turn.at), as_rendered)
                if piece is None:
                    unproven.add(turn.at)
                else:
                    pieces.append(piece)
            if not unproven or with_calls:
                return text, sorted(pieces, key=lambda piece: piece.begin), unproven
        return None

    def _marked(self, message: Mapping[str, Any], mark: str, with_calls: bool, as_rendered: bool) -> dict[str, Any]:
        if with_calls and has_calls(message):
            return call_mark(message, mark)
        return thought_mark(message, mark) if as_rendered else content_mark(mark)
