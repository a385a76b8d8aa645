"""Reading a chat request of a session whose earlier requests were read: only what is new is parsed.

A conversation's next request usually repeats the last one's text to the byte and adds messages at the end. That part
is compared as memory; the rest is read as a small body of its own. Anything else is read whole.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from moorage.capture.messages import Conversation, read_conversation
from moorage.capture.retry import Begun, begin
from moorage.gateway.http.request import Request
from moorage.gateway.turns.bodies import ChatAsk, check_chat, read_chat

__all__ = ["ChatRead", "Memo", "read_in_session"]

NAME = re.compile(rb'"messages"\s*:\s*')


class Memo:
    """What was read of a session's last chat request; never changed."""

    __slots__ = ("begun", "conversation", "has_other_parts", "head", "prefix", "system_key")

    def __init__(self, raw: bytes, span: tuple[int, int], read: ChatRead, begun: Begun) -> None:
        """`span`: where the messages' list begins (after its bracket) and where its last message ends."""
        start, end = span
        self.head = raw[:start]
        """The body up to the bracket that opens its messages."""
        self.prefix = raw[:end]
        """The body up to the end of its last message."""
        self.conversation = read.conversation
        self.has_other_parts = read.has_other_parts
        self.system_key = read.system_key
        self.begun = begun
        """The digest of the route and the prefix."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return 4 * len(self.prefix) + 200 * len(self.conversation.messages)

    def content(self, raw: bytes) -> Begun:
        """The digest of the route and the whole of a body that begins with the prefix."""
        return self.begun.plus(raw[len(self.prefix) :])


class ChatRead(msgspec.Struct, frozen=True):
    """A chat request, read."""

    ask: ChatAsk
    conversation: Conversation
    small: bytes
    """The body with at least the new messages: its other fields are those of the request."""
    system_key: bytes
    """The key after the leading system messages; empty: there are none."""
    has_other_parts: bool
    """A message has image, audio or video parts: only the engine can turn those into tokens."""

    @property
    def engine_renders(self) -> bool:
        """Whether only the engine can make this prompt: other parts than text, a template of the request's own."""
        return self.has_other_parts or self.ask.chat_template is not None or bool(self.ask.documents)


def read_in_session(memo: Memo | None, request: Request, path: str) -> tuple[ChatRead, Memo | None]:
    """The request, and what to remember of it; None where its text gives no hold. Raises as `read_chat` does."""
    continued = _continued(memo, request) if memo is not None else None
    return _whole(request, path) if continued is None else continued


def _continued(memo: Memo, request: Request) -> tuple[ChatRead, Memo] | None:
    """The request as a continuation of `memo`; None: it is none."""
    raw = request.body
    if not raw.startswith(memo.prefix):
        return None
    rest = raw[len(memo.prefix) :].lstrip()
    if rest[:1] not in (b",", b"]"):
        return None
    small = memo.head + (rest[1:] if rest[:1] == b"," else rest)
    listed = _listed(small)
    if listed is None or not small.startswith(listed, len(memo.head) - 1):
        return None  # a second `messages` further on, which is the one that counts
    ask = request.decode_part(small, ChatAsk)
    check_chat(ask, at=len(memo.conversation.messages))
    if not ask.messages:  # the same messages again: another sample
        again = msgspec.structs.replace(ask, messages=memo.conversation.messages)
        return ChatRead(again, memo.conversation, small, memo.system_key, memo.has_other_parts), memo
    before = memo.conversation
    new = read_conversation(ask.messages, after=(before.keys[-1], before.loose_keys[-1]))
    conversation = Conversation(
        before.keys + new.keys, before.loose_keys + new.loose_keys, before.messages + new.messages
    )
    other = memo.has_other_parts or _has_other_parts(ask.messages)
    whole = msgspec.structs.replace(ask, messages=conversation.messages)
    all_system = memo.system_key == before.keys[-1]  # then system messages may follow that still lead
    system_key = _system_key(conversation) if all_system else memo.system_key
    read = ChatRead(whole, conversation, small, system_key, other)
    end = len(raw) - len(rest) + 1 + len(listed[1:-1].rstrip())
    return read, Memo(raw, (len(memo.head), end), read, memo.begun.plus(raw[len(memo.prefix) : end]))


def _whole(request: Request, path: str) -> tuple[ChatRead, Memo | None]:
    ask = read_chat(request)
    conversation = read_conversation(ask.messages)
    raw, has_other_parts = request.body, _has_other_parts(ask.messages)
    read = ChatRead(ask, conversation, raw, _system_key(conversation), has_other_parts)
    span = _span(raw)
    return read, None if span is None else Memo(raw, span, read, begin(path).plus(raw[: span[1]]))


class _Messages(msgspec.Struct):
    messages: msgspec.Raw


def _listed(raw: bytes) -> bytes | None:
    """The text of the messages' list; of two the last one's. None: there is none."""
    try:
        return bytes(msgspec.json.decode(raw, type=_Messages).messages)
    except msgspec.DecodeError:
        return None


def _span(raw: bytes) -> tuple[int, int] | None:
    """Where the messages' list begins (after its bracket) and where its last message ends; None: not to be told."""
    listed = _listed(raw)
    if listed is None:
        return None
    for named in NAME.finditer(raw):
        if raw.startswith(listed, named.end()):
            return named.end() + 1, named.end() + len(listed[:-1].rstrip())
    return None


def _system_key(conversation: Conversation) -> bytes:
    key = b""
    for message, after in zip(conversation.messages, conversation.keys, strict=True):
        if message["role"] not in ("system", "developer"):
            break
        key = after
    return key


def _has_other_parts(messages: list[dict[str, Any]]) -> bool:
    return any(
        not isinstance(part, dict) or part.get("type", "text") != "text"
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )
