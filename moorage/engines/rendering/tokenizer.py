"""A model's tokenizer: text to ids and back, exactly as the model's own does it.

Two things need care. A template writes special tokens itself, so none are added here. And tokenizers of the
SentencePiece kind put a dummy space before the first word; text that goes on after other tokens must not get one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers

from moorage.capture.chain import digest
from moorage.engines.rendering.borders import Borders
from moorage.engines.rendering.pieces import PieceBytes
from moorage.engines.rendering.seams import without_dummy_prefix
from moorage.errors import PreflightError, UsageError

__all__ = ["Tokenizer"]

NAMED_SPECIALS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Tokenizer:
    """Immutable; made by `from_json`. Ids are those of the engine that serves the same files.

    Whatever encodes raises UsageError `text_not_unicode` for a text that holds half a surrogate pair.
    """

    def __init__(self, tokenizer_json: bytes, config: dict[str, Any], template: str | None) -> None:
        spec: dict[str, Any] = json.loads(tokenizer_json)
        self._own = _build(tokenizer_json.decode())
        seam_spec = without_dummy_prefix(spec)
        self._seam = self._own if seam_spec is None else _build(json.dumps(seam_spec, ensure_ascii=False))
        self._pieces = PieceBytes(self._own, spec)
        added = self._own.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        """Ids that no text of a reply shows."""
        self.atomic_ids = frozenset(token_id for token_id, token in added.items() if not token.single_word)
        """Ids cut out of a text before anything else happens to it: what stands on one side of them cannot change
        how the other side is encoded."""
        self._borders = Borders(added.items(), usable=self._seam is self._own)
        self.special_texts = {
            token.content: (bool(token.lstrip), bool(token.rstrip))
            for token in added.values()
            if token.special and token.content
        }
        """Text of each special token → whether it takes the white space before it, and after it, into itself."""
        longest_first = sorted(self.special_texts, key=len, reverse=True)
        self.special_pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        """Finds special tokens in a text; None: there are none."""
        self.named: dict[str, str] = _named_specials(config)
        """`bos_token`, `eos_token` … as templates know them."""
        self.bos_id: int | None = self._id_of(self.named.get("bos_token"))
        self.eos_ids = _eos_ids(config) | {
            token_id for token_id in [self._id_of(self.named.get("eos_token"))] if token_id is not None
        }
        """Ids that end a turn: of the tokenizer, and of the model's generation settings when they were given."""
        self.vocab_size: int = self._own.get_vocab_size(with_added_tokens=True)
        self.template = template
        """The chat template's source; None: the model has none."""
        self.template_digest = b"" if template is None else digest(template.encode())

    @classmethod
    def from_json(cls, tokenizer_json: bytes, config: dict[str, Any], template: str | None) -> Tokenizer:
        """From the contents of tokenizer.json, tokenizer_config.json and the chat template.

        `config` may also hold `eos_token_id` (an id or a list), as generation_config.json names it. Raises
        PreflightError `tokenizer_unreadable`.
        """
        try:
            return cls(tokenizer_json, config, template)
        except Exception as fault:  # the library raises bare Exception for a spec that it cannot use
            raise PreflightError(
                f"tokenizer.json cannot be used: {fault}",
                code="tokenizer_unreadable",
                hint="it must be a file of the tokenizers library; slow tokenizers can be converted with transformers",
            ) from None

    def encode_whole(self, text: str) -> list[int]:
        """[N] the ids of a prompt that begins here, as the model's own tokenizer gives them; no special ones added."""
        return _encode_fast(self._own, text)

    def encode_fresh(self, text: str) -> list[int]:
        """[N] the same with the special tokens that the tokenizer adds by itself, but never two BOS."""
        ids: list[int] = _encode(self._own, text, add_special=True).ids
        doubled = self.bos_id is not None and ids[:2] == [self.bos_id, self.bos_id]
        return ids[1:] if doubled else ids

    def encode(self, text: str, *, escape_special: bool = False) -> list[int]:
        """[N] the ids of text that goes on after other tokens: no BOS, no dummy prefix at the seam.

        `escape_special`: the text of special tokens in it is text like any other.
        """
        if not text:
            return []
        if escape_special:
            return self._encode_plain(self._seam, text)
        if self._seam is self._own:
            return _encode_fast(self._own, text)
        own = _encode(self._own, text)
        ids: list[int] = own.ids
        if ids[0] in self.atomic_ids:
            return ids
        first = next((place for place, token_id in enumerate(ids) if token_id in self.atomic_ids), None)
        if first is None:
            return list(_encode(self._seam, text).ids)
        cut = own.offsets[first][0]
        return list(_encode(self._seam, text[:cut]).ids) + ids[first:]

    def fixed_span(self, text: str, *, begins: bool, ends: bool) -> tuple[int, int] | None:
        """The part of a text that has the same ids between any two other texts; those encode by themselves then.

        `begins`, `ends`: nothing comes before, or after, the text. None: no such part is proven.
        """
        if not self._borders.usable:
            return None
        whole = _encode(self._own, text)
        span = self._borders.span(text, whole.ids, whole.offsets, begins=begins, ends=ends)
        if span is None:
            return None
        first, last = span
        ids = self.encode(text[first:last])
        bounded = self._borders.bounded(ids, begins=begins and first == 0, ends=ends and last == len(text))
        return span if bounded else None

    def encode_between(self, text: str, *, begins: bool) -> list[int]:
        """[N] the ids of text that stands right after a special token (or begins the prompt), all of it plain text."""
        return self._encode_plain(self._own if begins or self._prefixes_after_special() else self._seam, text)

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """The text of [N] ids; bytes that are no whole character become U+FFFD. Raises OverflowError for ids < 0."""
        return str(self._own.decode(ids, skip_special_tokens=skip_special))

    def token_text(self, token_id: int) -> str:
        """The vocabulary's own form of a token; empty for an unknown id."""
        return self._own.id_to_token(token_id) or ""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for within a text; empty for an unknown id."""
        return self._pieces.of(token_id)

    def join_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of [N] ids, special tokens as their text; a dummy prefix is not taken off."""
        return b"".join(map(self._pieces.of, ids))

    def follow(self, pending: bytes, ids: Iterable[int]) -> tuple[str, bytes]:
        """The text of [N] ids after `pending`, special tokens as their text, and what is pending after them."""
        return self._pieces.follow(pending, ids)

    def finish(self, pending: bytes) -> str:
        """The text of pending bytes when nothing comes after them: U+FFFD."""
        return self._pieces.finish(pending)

    def in_vocabulary(self, ids: Iterable[int]) -> bool:
        """Whether every id has a token."""
        return all(token_id >= 0 and self._own.id_to_token(token_id) is not None for token_id in ids)

    def _encode_plain(self, by: tokenizers.Tokenizer, text: str) -> list[int]:
        by.encode_special_tokens = True
        try:
            ids: list[int] = _encode(by, text).ids
        finally:
            by.encode_special_tokens = False
        return ids

    def _prefixes_after_special(self) -> bool:
        """Whether the model's own tokenizer puts its dummy prefix after every special token (older Llama files do)."""
        special = next(iter(self.special_texts), None)
        if self._seam is self._own or special is None:
            return False
        alone: list[int] = _encode(self._seam, "a").ids
        return self.encode_whole(special + "a")[1:] != alone

    def _id_of(self, text: str | None) -> int | None:
        return None if text is None else self._own.token_to_id(text)


def _encode(by: tokenizers.Tokenizer, text: str, *, add_special: bool = False) -> Any:
    try:
        return by.encode(text, add_special_tokens=add_special)
    except (UnicodeEncodeError, TypeError):
        # JSON can write half of a surrogate pair, which no tokenizer can read.
        raise UsageError(
            "the text holds half a character (a lone surrogate), which has no tokens",
            code="text_not_unicode",
            hint="send whole characters: UTF-8, or both halves of a \\u escape",
        ) from None


def _encode_fast(by: tokenizers.Tokenizer, text: str) -> list[int]:
    """The same ids; leaves out where they stand in the text, a fifth of the work."""
    try:
        ids: list[int] = by.encode_batch_fast([text], add_special_tokens=False)[0].ids
    except (UnicodeEncodeError, TypeError):
        ids = _encode(by, text).ids  # says what is wrong with it
    return ids


def _build(spec: str) -> tokenizers.Tokenizer:
    built = tokenizers.Tokenizer.from_str(spec)
    # A file may ask for both; either would change what the model is given.
    built.no_truncation()
    built.no_padding()
    return built


def _named_specials(config: dict[str, Any]) -> dict[str, str]:
    named: dict[str, str] = {}
    for name in NAMED_SPECIALS:
        text = _token_text(config.get(name))
        if text is not None:
            named[name] = text
    extra = config.get("extra_special_tokens")
    if isinstance(extra, dict):
        named.update({str(name): text for name, token in extra.items() if (text := _token_text(token)) is not None})
    return named


def _token_text(token: Any) -> str | None:
    """Configurations write a token as its text or as an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _eos_ids(config: dict[str, Any]) -> frozenset[int]:
    given = config.get("eos_token_id")
    several = given if isinstance(given, list) else [given]
    return frozenset(token_id for token_id in several if isinstance(token_id, int) and not isinstance(token_id, bool))
