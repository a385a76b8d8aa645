"""What bytes a token stands for.

A token of a byte-level vocabulary is written in letters that each stand for one byte; one of a SentencePiece
vocabulary writes a space as U+2581 and a lone byte as <0xE2>. Added tokens are their own text in both.
"""

from __future__ import annotations

import re
from typing import Any

import tokenizers

__all__ = ["PieceBytes"]

_LONE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class PieceBytes:
    """Looks up tokens one by one; remembers those asked for."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, spec: dict[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._added = {token_id: token.content for token_id, token in tokenizer.get_added_tokens_decoder().items()}
        decoders = _kinds(spec.get("decoder"), "decoders")
        self._byte_level = "ByteLevel" in decoders
        self._byte_fallback = "ByteFallback" in decoders
        self._letters = _byte_letters() if self._byte_level else {}
        self._known: dict[int, bytes] = {}

    def of(self, token_id: int) -> bytes:
        """The bytes of one id; empty when there is no such token."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._look_up(token_id)
        return known

    def _look_up(self, token_id: int) -> bytes:
        text = self._added.get(token_id)
        if text is not None:
            return text.encode()
        text = self._tokenizer.id_to_token(token_id) if token_id >= 0 else None
        if text is None:
            return b""
        if self._byte_level:
            return b"".join(_byte(letter, self._letters) for letter in text)
        lone = _LONE_BYTE.match(text) if self._byte_fallback else None
        if lone is not None:
            return bytes([int(lone[1], 16)])
        return text.replace("\u2581", " ").encode(errors="replace")


def _byte(letter: str, letters: dict[str, int]) -> bytes:
    byte = letters.get(letter)
    return letter.encode() if byte is None else bytes([byte])


def _kinds(part: dict[str, Any] | None, several: str) -> set[str]:
    if part is None:
        return set()
    kinds = {str(part.get("type"))}
    for one in part.get(several) or []:
        kinds |= _kinds(one, several)
    return kinds


def _byte_letters() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes are themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in printable}
    rest = [byte for byte in range(0x100) if chr(byte) not in letters]
    letters.update({chr(0x100 + place): byte for place, byte in enumerate(rest)})
    return letters
