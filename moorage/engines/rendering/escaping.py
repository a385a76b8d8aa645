"""The text of special tokens in what users and tools say, encoded as plain text.

A token's text in a message looks to the tokenizer like the token that the template wrote. So before the render each
one is broken by a character that no message contains, and only the unbroken ones are tokens afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.errors import UsageError

__all__ = ["Escape"]

NONCHARACTERS = [chr(point) for point in range(0xFDD0, 0xFDF0)]
"""Code points that Unicode keeps for such uses and that texts never hold."""

TRUSTED_ROLES = frozenset({"system", "developer", "assistant"})


class Escape:
    """For the messages of one render."""

    def __init__(self, tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]]) -> None:
        """Raises UsageError when the messages hold every noncharacter there is."""
        self._tokenizer = tokenizer
        self._pattern = tokenizer.special_pattern
        self._mark = _unused(messages)
        self.messages: list[dict[str, Any]] = [self._broken(message) for message in messages]
        """The messages to render."""

    def encode(self, text: str) -> list[int]:
        """[N] the ids of rendered text that goes on after other tokens."""
        return self._encode(text, begins=False)

    def encode_whole(self, text: str) -> list[int]:
        """[N] the ids of a rendered prompt that begins here."""
        return self._encode(text, begins=True)

    def _encode(self, text: str, *, begins: bool) -> list[int]:
        tokenizer, pattern = self._tokenizer, self._pattern
        if self._mark not in text or pattern is None:
            return tokenizer.encode_whole(text) if begins else tokenizer.encode(text)
        ids: list[int] = []
        waiting = ""  # text whose special tokens are the template's own
        for section, special in _sections(pattern, text):
            if self._mark in section:
                eats_after = bool(waiting) and tokenizer.special_texts[_last(pattern, waiting)][1]
                eats_before = special is not None and tokenizer.special_texts[special][0]
                section = section.lstrip() if eats_after else section
                section = section.rstrip() if eats_before else section
                ids += self._own(waiting, begins=begins and not ids)
                at_start = begins and not ids
                plain = section.replace(self._mark, "")
                after_special = bool(ids) or at_start
                ids += (
                    tokenizer.encode_between(plain, begins=at_start)
                    if after_special
                    else tokenizer.encode(plain, escape_special=True)
                )
                waiting = special or ""
            else:
                waiting += section + (special or "")
        return ids + self._own(waiting, begins=begins and not ids)

    def _own(self, text: str, *, begins: bool) -> list[int]:
        if not text:
            return []
        return self._tokenizer.encode_whole(text) if begins else self._tokenizer.encode(text)

    def _broken(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if message.get("role") in TRUSTED_ROLES or not content:
            return dict(message)
        if isinstance(content, list):
            return {**message, "content": [self._broken_part(part) for part in content]}
        return {**message, "content": self._broken_text(content)}

    def _broken_part(self, part: Any) -> Any:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            return {**part, "text": self._broken_text(part["text"])}
        return self._broken_text(part)

    def _broken_text(self, text: Any) -> Any:
        if self._pattern is None or not isinstance(text, str):
            return text
        return self._pattern.sub(lambda found: found[0][0] + self._mark + found[0][1:], text)


def _unused(messages: Sequence[Mapping[str, Any]]) -> str:
    said = "".join(_texts(messages))
    for mark in NONCHARACTERS:
        if mark not in said:
            return mark
    raise UsageError("the messages hold every Unicode noncharacter", code="messages_unreadable")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for one in inner for text in _texts(one)]


def _sections(pattern: re.Pattern[str], text: str) -> list[tuple[str, str | None]]:
    """(text, the special token after it); the last one has none."""
    sections: list[tuple[str, str | None]] = []
    at = 0
    for found in pattern.finditer(text):
        sections.append((text[at : found.start()], found[0]))
        at = found.end()
    return [*sections, (text[at:], None)]


def _last(pattern: re.Pattern[str], text: str) -> str:
    return [found[0] for found in pattern.finditer(text)][-1]
