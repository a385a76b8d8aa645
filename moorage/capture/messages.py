"""When two conversations are the same one, although their JSON differs.

Clients echo what they were given, but seldom to the byte: they leave out call ids, reorder an argument's keys, send
text as parts, drop nulls. The canonical form of a message keeps what a model was shown and nothing else:

| part | canonical form |
| --- | --- |
| role, name | as they are; no name, null and "" are the same |
| content | null, "" and [] are the same; text parts are their concatenation; other parts count by their JSON |
| tool_calls | (name, arguments) in order; arguments as parsed JSON, or the string itself when it is no JSON |
| call ids, tool_call_id | ignored |
| reasoning, reasoning_content | ignored here, compared apart (`reasoning_of`) |
| anything else (refusal, annotations, audio …) | ignored |

The order of an object's keys never counts. The loose form is the same with texts in NFC, line ends as LF, and outer
white space taken off. Keys are chained: the key after a message stands for the whole conversation up to it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from moorage.capture.chain import digest

__all__ = ["START", "Conversation", "loose_key", "message_key", "read_conversation", "reasoning_of", "tools_digest"]

START = bytes(16)
"""The key before the first message."""

_ENCODER = msgspec.json.Encoder(order="sorted")


class Conversation(msgspec.Struct, frozen=True):
    """The messages of one request and the key after each of them; the three lists are of one length."""

    keys: list[bytes]
    loose_keys: list[bytes]
    messages: list[dict[str, Any]]


def message_key(previous: bytes, message: Mapping[str, Any]) -> bytes:
    """[16] the key after `message`, when the one before it is `previous`. Takes any JSON object."""
    return _chained(previous, _canonical(message))


def loose_key(previous: bytes, message: Mapping[str, Any]) -> bytes:
    """[16] the same over the loose form; `previous` is the loose key before. Both at once: `read_conversation`."""
    return _chained(previous, _loosened(_canonical(message)))


def read_conversation(
    messages: Sequence[dict[str, Any]], *, after: tuple[bytes, bytes] = (START, START)
) -> Conversation:
    """The keys of `messages`; `after` are the key and the loose key of earlier messages that are known already."""
    key, loose = after
    keys: list[bytes] = []
    loose_keys: list[bytes] = []
    for message in messages:
        form = _canonical(message)
        relaxed = _loosened(form)
        same = loose == key and (relaxed is form or relaxed == form)
        key = _chained(key, form)
        loose = key if same else _chained(loose, relaxed)
        keys.append(key)
        loose_keys.append(loose)
    return Conversation(keys, loose_keys, list(messages))


def tools_digest(tools: Any) -> bytes:
    """[16] of the tools' JSON, keys sorted; b"" for None and for an empty list."""
    return digest(_encode(tools)) if tools else b""


def reasoning_of(message: Mapping[str, Any]) -> str | None:
    """The reasoning that a message carries beside its content, under either name; None: none, or an empty one."""
    for name in ("reasoning_content", "reasoning"):
        text = message.get(name)
        if isinstance(text, str) and text:
            return text
    return None


_Form = list[Any]
"""[role, content, name, [[function name, is JSON, arguments], …]]."""


def _canonical(message: Mapping[str, Any]) -> _Form:
    return [
        message.get("role"),
        _content(message.get("content")),
        message.get("name") or "",
        _calls(message.get("tool_calls"), message.get("function_call")),
    ]


def _content(content: Any) -> Any:
    """Text, or a list in which neighbouring texts are one."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    merged: list[Any] = []
    for part in content:
        text = _text_of(part)
        if text is not None and merged and isinstance(merged[-1], str):
            merged[-1] += text
        else:
            merged.append(part if text is None else text)
    if not merged:
        return ""
    return merged[0] if len(merged) == 1 and isinstance(merged[0], str) else merged


def _text_of(part: Any) -> str | None:
    """A text part's text; None: another kind of part."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    return None


def _calls(calls: Any, legacy: Any) -> Any:
    if not calls:
        return [_call({"function": legacy})] if legacy else []
    return [_call(call) for call in calls] if isinstance(calls, list) else calls


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return {"other": call}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        return [function.get("name"), *_parsed(arguments)]
    # Some clients send the arguments as the object itself.
    return [function.get("name"), True, arguments]


def _parsed(text: str) -> tuple[bool, Any]:
    """Whether it is JSON, and what it says; numbers keep their digits, since 1.0 and 1 are not the same tokens."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False, text
    return True, value


def _loosened(form: _Form) -> _Form:
    """The form itself when there is nothing to relax, as for most messages."""
    role, content, name, calls = form
    if isinstance(content, str):
        loose = _loose_text(content)
        if loose is content and not calls:
            return form
        content = loose
    elif isinstance(content, list):
        content = [_loose_text(part) if isinstance(part, str) else part for part in content]
    return [role, content, name, [_loose_call(call) for call in calls] if isinstance(calls, list) else calls]


def _loose_call(call: Any) -> Any:
    if not isinstance(call, list):
        return call
    name, is_json, arguments = call
    try:
        return [name, is_json, _loose_json(arguments) if is_json else _loose_text(arguments)]
    except RecursionError:
        return call  # nested too deeply to be relaxed


def _loose_json(value: Any) -> Any:
    """Values of arguments are data: only their Unicode form is relaxed."""
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_loose_json(one) for one in value]
    if isinstance(value, dict):
        return {_loose_json(key): _loose_json(one) for key, one in value.items()}
    return value


def _loose_text(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.strip()


def _chained(previous: bytes, form: _Form) -> bytes:
    return digest(previous + _encode(form))


def _encode(value: Any) -> bytes:
    try:
        return _ENCODER.encode(value)
    except (UnicodeEncodeError, TypeError, RecursionError):
        # Half a surrogate pair has no UTF-8; it is written as an escape, which no other text gives.
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
