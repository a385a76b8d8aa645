"""One long conversation in token ids: 64 new prompt ids and 128 sampled ones a turn."""

from __future__ import annotations

from dataclasses import replace

from bench.gateway.speech import SAMPLED_TOKENS, Answer, ids_json, wide_ids

__all__ = ["LAST_TURN", "NEW_TOKENS", "VARIANTS", "TurnIds", "prompt_tokens", "variant_of"]

NEW_TOKENS = 64
LAST_TURN = 210
VARIANTS = 16
"""Different answers of the stub to prompts of ids."""
TURN_TOKENS = NEW_TOKENS + SAMPLED_TOKENS


def variant_of(prompt_tokens: int) -> int:
    """Which of the stub's answers a prompt of this length gets: one a turn, also where templates count a few more."""
    return prompt_tokens // TURN_TOKENS % VARIANTS


def prompt_tokens(turn: int) -> int:
    """Of the prompt of a turn, counted from 1."""
    return (turn - 1) * TURN_TOKENS + NEW_TOKENS


class TurnIds:
    """The ids of every turn; a prompt is what went before it."""

    def __init__(self, seed: int = 7) -> None:
        self._ids = wide_ids(seed, LAST_TURN * TURN_TOKENS)
        self._json = ids_json(self._ids)
        self._ends = _ends(self._json)

    def prompt(self, turn: int) -> bytes:
        """The JSON array of a turn's prompt ids."""
        return self._json[: self._ends[prompt_tokens(turn) - 1]] + b"]"

    def answer(self, answer: Answer, turn: int) -> Answer:
        """The same answer with the ids that this turn samples."""
        begin = prompt_tokens(turn)
        return replace(answer, ids=self._ids[begin : begin + SAMPLED_TOKENS])


def _ends(text: bytes) -> list[int]:
    """Where each number of a JSON array ends."""
    return [place for place, byte in enumerate(text) if byte in b",]"]
