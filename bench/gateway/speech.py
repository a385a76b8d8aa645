"""What is said in the measurements: texts of an exact number of tokens, the same in every run."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

__all__ = ["SAMPLED_TOKENS", "Answer", "Speech", "ids_json", "load_speech", "wide_answer", "wide_ids"]

SAMPLED_TOKENS = 128
WIDE_VOCABULARY = 151_000
"""Ids of a large vocabulary have five or six digits; a reply with smaller ones would be a smaller reply."""

WORDS = (
    "the of and in to is that for with from this are which each one has been more than when into over after before "
    "because number value table file list server reply request model token word line state time change result part "
    "return class import while print string open read write close first second third last next call name"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the stub samples."""

    text: str
    pieces: list[str]
    """[C] the text of each token; the last one is the end of the turn."""
    ids: list[int]
    """[C]"""
    logprobs: list[float]
    """[C]"""


class Speech:
    """Texts over one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, end_of_turn: str) -> None:
        end = tokenizer.token_to_id(end_of_turn)
        if end is None:
            raise ValueError(f"the tokenizer has no token {end_of_turn!r}")
        self._end = end
        self._tokenizer = tokenizer
        self._end_of_turn = end_of_turn

    def user_text(self, seed: int, tokens: int) -> str:
        """A text of exactly this many tokens."""
        text: str = self._tokenizer.decode(self._ids(seed, tokens))
        return text

    def answer(self, seed: int, tokens: int = SAMPLED_TOKENS) -> Answer:
        """An answer that ends its turn with its last token."""
        ids = self._ids(seed, tokens - 1)
        pieces = [self._tokenizer.decode([token]) for token in ids]
        return Answer("".join(pieces), [*pieces, self._end_of_turn], [*ids, self._end], _logprobs(seed, tokens))

    def _ids(self, seed: int, tokens: int) -> list[int]:
        rng, words = random.Random(seed), WORDS.split()
        text = " ".join(rng.choice(words) for _ in range(tokens * 2))
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids[:tokens]


def load_speech(model: Path) -> Speech:
    """Of a model's folder (tokenizer.json and tokenizer_config.json)."""
    config = json.loads((model / "tokenizer_config.json").read_text())
    return Speech(Tokenizer.from_file(str(model / "tokenizer.json")), config["eos_token"])


def wide_answer(seed: int, tokens: int = SAMPLED_TOKENS) -> Answer:
    """Of a large vocabulary, a word a token, for replies whose ids nobody reads as text."""
    rng, words = random.Random(seed), WORDS.split()
    pieces = [f" {rng.choice(words)}" for _ in range(tokens - 1)]
    return Answer("".join(pieces), [*pieces, "<|im_end|>"], wide_ids(seed, tokens), _logprobs(seed, tokens))


def wide_ids(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(1000, WIDE_VOCABULARY) for _ in range(count)]


def ids_json(ids: list[int]) -> bytes:
    """`[1,2,3]`, as vLLM writes it."""
    return json.dumps(ids, separators=(",", ":")).encode()


def _logprobs(seed: int, tokens: int) -> list[float]:
    rng = random.Random(seed)
    return [_single(-rng.expovariate(1.0)) for _ in range(tokens)]


def _single(value: float) -> float:
    """As an engine that computes in single precision prints it."""
    narrowed: float = struct.unpack("f", struct.pack("f", value))[0]
    return narrowed
