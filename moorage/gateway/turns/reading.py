"""Reading a chat request of a session whose earlier requests were read: only what is new is parsed.

A conversation's next request usually repeats the last one's text to the byte and adds messages at the end. That part
is compared as memory; the rest is read as a small body of its own. Anything else is read whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.messages import Conversation, read_conversation
from moorage.capture.retry import Begun, begin
from moorage.gateway.http.request import Request
from moorage.gateway.turns.bodies import ChatAsk, check_chat, read_chat

__all__ = ["ChatRead", "Memo", "read_in_session"]


class Memo:
    """What was read of a session's last chat request."""

    __slots__ = ("begun", "conversation", "has_other_parts", "head", "prefix", "system_key")

    def __init__(self, raw: bytes, span: tuple[int, int], read: ChatRead, begun: Begun) -> None:
        start, end = span
        self.head = raw[:start]
        """The body up to the bracket that opens its messages."""
        self.prefix = raw[:end]
        """The body up to the end of its last message."""
        self.conversation = read.conversation
        self.has_other_parts = read.has_other_parts
        self.system_key = read.system_key
        self.begun = begun

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return 4 * len(self.prefix) + 200 * len(self.conversation.messages)


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
    memo: Memo | None
    """What this request repeats; None: it was read whole."""

    @property
    def engine_renders(self) -> bool:
        """Whether only the engine can make this prompt: other parts than text, a template of the request's own."""
        return self.has_other_parts or self.ask.chat_template is not None or bool(self.ask.documents)

    def content(self, path: str, raw: bytes) -> Begun:
        """The digest of the route and the whole body, what is known of it not hashed again."""
        if self.memo is None:
            return begin(path).plus(raw)
        return self.memo.begun.plus(raw[len(self.memo.prefix) :])


def read_in_session(memo: Memo | None, request: Request, path: str) -> tuple[ChatRead, Memo | None]:
    """The request, and what to remember of it; None where its text gives no hold. Raises as `read_chat` does."""
    read = _continued(memo, request) if memo is not None else None
    if read is None:
        read = _whole(request)
    span = _span(request.body, read)
    if span is None:
        return read, None
    begun = read.memo.begun if read.memo is not None else begin(path)
    known_bytes = len(read.memo.prefix) if read.memo is not None else 0
    return read, Memo(request.body, span, read, begun.plus(request.body[known_bytes : span[1]]))


def _continued(memo: Memo, request: Request) -> ChatRead | None:
    """The request as a continuation of `memo`; None: it is none."""
    raw = request.body
    if not raw.startswith(memo.prefix):
        return None
    rest = raw[len(memo.prefix) :].lstrip()
    if rest[:1] not in (b",", b"]"):
        return None
    small = memo.head + (rest[1:] if rest[:1] == b"," else rest)
    try:
        messages = msgspec.json.decode(small, type=_Messages).messages
    except msgspec.DecodeError:
        return None
    if not small.startswith(bytes(messages), len(memo.head) - 1):
        return None  # a second `messages` further on, which is the one that counts
    ask = request.decode_part(small, ChatAsk)
    check_chat(ask, at=len(memo.conversation.messages))
    before = memo.conversation
    new = read_conversation(ask.messages, after=(before.keys[-1], before.loose_keys[-1]))
    conversation = Conversation(
        before.keys + new.keys, before.loose_keys + new.loose_keys, before.messages + new.messages
    )
    other = memo.has_other_parts or _has_other_parts(ask.messages)
    whole = msgspec.structs.replace(ask, messages=conversation.messages)
    all_system = memo.system_key == before.keys[-1]  # then system messages may follow that still lead
    system_key = _system_key(conversation) if all_system else memo.system_key
    return ChatRead(whole, conversation, small, system_key, other, memo)


def _whole(request: Request) -> ChatRead:
    ask = read_chat(request)
    conversation = read_conversation(ask.messages)
    return ChatRead(ask, conversation, request.body, _system_key(conversation), _has_other_parts(ask.messages), None)


class _Messages(msgspec.Struct):
    messages: msgspec.Raw


def _span(raw: bytes, read: ChatRead) -> tuple[int, int] | None:
    """Where the messages' list begins (after its bracket) and where its last message ends; None: not to be told."""
    if read.memo is not None:
        start = len(read.memo.head)
        known_bytes = len(read.memo.prefix)
        listed = bytes(msgspec.json.decode(read.small, type=_Messages).messages)
        new = listed[1:-1].rstrip()
        if not new:
            return start, known_bytes
        comma = raw.index(b",", known_bytes) + 1
        end = comma + len(new)
        return (start, end) if raw.startswith(new, comma) else None
    listed = bytes(msgspec.json.decode(raw, type=_Messages).messages)
    at = raw.find(listed)
    if at < 0 or not raw[:at].rstrip().endswith(b":"):
        return None
    if not raw[:at].rstrip()[:-1].rstrip().endswith(b'"messages"'):
        return None
    return at + 1, at + len(listed[:-1].rstrip())


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
