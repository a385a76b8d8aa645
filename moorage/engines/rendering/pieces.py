"""What bytes a token stands for.

A token of a byte-level vocabulary is written in letters that each stand for one byte; one of a SentencePiece
vocabulary writes a space as U+2581 and a lone byte as <0xE2>. Added tokens are their own text in both.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Any

import tokenizers

__all__ = ["PieceBytes"]


class PieceBytes:
    """Looks up tokens one by one; remembers those asked for."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, spec: dict[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._added = {token_id: token.content for token_id, token in tokenizer.get_added_tokens_decoder().items()}
        decoders = _kinds(spec.get("decoder"), "decoders")
        self._byte_level = "ByteLevel" in decoders
        self._byte_fallback = "ByteFallback" in decoders
        self._letters = _byte_letters() if self._byte_level else {}
        self._lone_bytes = frozenset(_lone_bytes(tokenizer)) if self._byte_fallback else frozenset()
        self._known: dict[int, bytes] = {}

    def of(self, token_id: int) -> bytes:
        """The bytes of one id; empty when there is no such token."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._look_up(token_id)
        return known

    def follow(self, pending: bytes, ids: Iterable[int]) -> tuple[str, bytes]:
        """The text of [N] ids after `pending`, and the bytes at their end that may become a character with the next.

        As the library decodes: a byte-level vocabulary replaces what is no UTF-8 by its longest beginnings, a
        vocabulary with lone bytes replaces each byte of a run that is not all UTF-8.
        """
        if not self._byte_fallback:
            decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
            text = decoder.decode(pending + b"".join(map(self.of, ids)))
            return text, decoder.getstate()[0]
        text, run = "", pending
        for token_id in ids:
            if token_id in self._lone_bytes:
                run += self.of(token_id)
            else:
                text += self.finish(run) + self.of(token_id).decode(errors="replace")
                run = b""
        return text, run

    def finish(self, pending: bytes) -> str:
        """The text of bytes that nothing comes after."""
        if not self._byte_fallback:
            return pending.decode(errors="replace")
        try:
            return pending.decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(pending)

    def _look_up(self, token_id: int) -> bytes:
        text = self._added.get(token_id)
        if text is not None:
            return text.encode()
        text = self._tokenizer.id_to_token(token_id) if token_id >= 0 else None
        if text is None:
            return b""
        if self._byte_level:
            return b"".join(_byte(letter, self._letters) for letter in text)
        if token_id in self._lone_bytes:
            return bytes([int(text[3:5], 16)])
        return text.replace("\u2581", " ").encode(errors="replace")


def _byte(letter: str, letters: dict[str, int]) -> bytes:
    byte = letters.get(letter)
    return letter.encode() if byte is None else bytes([byte])


def _lone_bytes(tokenizer: tokenizers.Tokenizer) -> Iterator[int]:
    for byte in range(0x100):
        token_id = tokenizer.token_to_id(f"<0x{byte:02X}>")
        if token_id is not None:
            yield token_id


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
