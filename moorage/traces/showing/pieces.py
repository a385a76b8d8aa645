"""Token ids as what a person can read: special tokens and white space visible, nothing that moves the cursor."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["Piece", "Run", "pieces_of", "plain", "runs_of", "texts_of"]

Kind = Literal["text", "special", "id"]

_MARKS = {" ": "·", "\n": "↵\n", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}
_LONGEST_CHARACTER = 4
_HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"))


class Piece(msgspec.Struct, frozen=True):
    """Tokens that are whole characters together: one, as a rule."""

    start: int
    """Of its first token, within the ids."""
    count: int
    text: str
    kind: Kind


class Run(msgspec.Struct, frozen=True):
    """Neighbouring characters that are shown alike."""

    text: str
    mark: bool
    """A sign in the place of white space, or of a character that cannot be shown."""


def pieces_of(ids: Sequence[int], tokenizer: Tokenizer | None) -> list[Piece]:
    """Without a tokenizer each piece is the id itself."""
    if tokenizer is None:
        return [Piece(at, 1, str(token), "id") for at, token in enumerate(ids)]
    return list(_pieces(ids, tokenizer))


def texts_of(ids: Sequence[int], tokenizer: Tokenizer | None) -> list[str] | None:
    r"""[N] the text of each id by itself, bytes that are no whole character as `\xNN`; None without a tokenizer."""
    if tokenizer is None:
        return None
    return [_bytes_of(token, tokenizer).decode("utf-8", "backslashreplace") for token in ids]


def runs_of(text: str) -> Iterator[Run]:
    """The text with visible white space; every other character that has no glyph as its number."""
    plain: list[str] = []
    for character in text:
        mark = _MARKS.get(character) or _number(character)
        if mark is None:
            plain.append(character)
            continue
        if plain:
            yield Run("".join(plain), False)
            plain = []
        yield Run(mark, True)
    if plain:
        yield Run("".join(plain), False)


def plain(text: str) -> str:
    """The text without anything that a terminal would act on."""
    return "".join(_number(character) or character for character in text)


def _pieces(ids: Sequence[int], tokenizer: Tokenizer) -> Iterator[Piece]:
    at = 0
    while at < len(ids):
        token = ids[at]
        if token in tokenizer.special_ids:
            yield Piece(at, 1, tokenizer.token_text(token), "special")
            at += 1
            continue
        piece = _characters(ids, at, tokenizer)
        yield piece
        at += piece.count


def _characters(ids: Sequence[int], at: int, tokenizer: Tokenizer) -> Piece:
    """The fewest tokens from `at` on that are whole characters; one with its bytes escaped if that never comes."""
    content = b""
    for more in range(min(_LONGEST_CHARACTER, len(ids) - at)):
        if more and ids[at + more] in tokenizer.special_ids:
            break
        content += _bytes_of(ids[at + more], tokenizer)
        try:
            return Piece(at, more + 1, content.decode(), "text")
        except UnicodeDecodeError as fault:
            if fault.reason != "unexpected end of data":
                break
    return Piece(at, 1, _bytes_of(ids[at], tokenizer).decode("utf-8", "backslashreplace"), "text")


def _bytes_of(token: int, tokenizer: Tokenizer) -> bytes:
    """An id that the vocabulary does not have is shown as its number."""
    return tokenizer.token_bytes(token) or (f"⟨{token}⟩".encode() if not tokenizer.token_text(token) else b"")


def _number(character: str) -> str | None:
    """`⟨U+202E⟩`; None for what can be shown."""
    if unicodedata.category(character) not in _HIDDEN:
        return None
    return f"⟨U+{ord(character):04X}⟩"
