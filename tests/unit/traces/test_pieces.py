"""Token ids as readable pieces: nothing is lost, nothing moves the cursor."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.tokenizer_files import load_tokenizer
from moorage.traces.showing.pieces import pieces_of, plain, runs_of, texts_of

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"
TOKENIZER = load_tokenizer(NANO)


@given(st.text())
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    ids = TOKENIZER.encode_whole(text)
    pieces = pieces_of(ids, TOKENIZER)
    assert [one for piece in pieces for one in range(piece.start, piece.start + piece.count)] == list(range(len(ids)))
    if unicodedata.is_normalized("NFC", text):
        assert "".join(piece.text for piece in pieces) == text


@given(st.lists(st.integers(0, TOKENIZER.vocab_size + 5)))
def test_any_ids_have_pieces_and_texts(ids: list[int]) -> None:
    pieces = pieces_of(ids, TOKENIZER)
    assert sum(piece.count for piece in pieces) == len(ids)
    assert len(texts_of(ids, TOKENIZER) or []) == len(ids)
    for piece in pieces:
        shown = "".join(run.text for run in runs_of(piece.text))
        assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Cf") and one != "\n"]


def test_characters_of_several_tokens_are_one_piece() -> None:
    ids = TOKENIZER.encode_whole("好")
    assert len(ids) > 1
    assert [piece.text for piece in pieces_of(ids, TOKENIZER)] == ["好"]
    half = pieces_of(ids[:1], TOKENIZER)
    assert half[0].text.startswith("\\x")
    broken = pieces_of([ids[0], 505], TOKENIZER)
    assert [piece.kind for piece in broken] == ["text", "special"]


def test_special_tokens_are_told_from_their_text() -> None:
    [special] = pieces_of([505], TOKENIZER)
    assert (special.text, special.kind) == ("<|im_end|>", "special")


def test_without_a_tokenizer_there_are_ids() -> None:
    assert [(piece.text, piece.kind) for piece in pieces_of([7, 9], None)] == [("7", "id"), ("9", "id")]
    assert texts_of([7], None) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a·b"),
        ("a\n", "a↵\n"),
        ("\t\r", "⇥␍"),
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("a\u202eb\u200b", "a⟨U+202E⟩b⟨U+200B⟩"),
        ("\u2028", "⟨U+2028⟩"),
    ],
)
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    assert "".join(run.text for run in runs_of(text)) == shown


def test_plain_text_holds_no_escape() -> None:
    assert plain("stop\x1b[2J") == "stop⟨U+001B⟩[2J"
