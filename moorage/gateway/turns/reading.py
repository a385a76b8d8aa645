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
from moorage.engines.vllm.ask import SPACE
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.request import Request, decode_body
from moorage.gateway.turns.bodies import ChatAsk, check_chat, read_chat, sampling_of

__all__ = ["ChatRead", "Memo", "read_in_session"]

NAME = re.compile(rb'"messages"\s*:\s*')


class Memo:
    """What was read of a session's last chat request; never changed."""

    __slots__ = ("begun", "head", "prefix", "read", "size_bytes", "tail")

    def __init__(self, raw: bytes, span: tuple[int, int], begun: Begun, read: ChatRead) -> None:
        """`span`: where the messages' list begins (after its bracket) and where its last message ends."""
        start, end = span
        self.head = raw[:start]
        """The body up to the bracket that opens its messages."""
        self.prefix = memoryview(raw)[:end]
        """The body up to the end of its last message; a long one is not copied for it."""
        self.tail = raw[end:]
        """The rest of it."""
        self.begun = begun
        """The digest of the route and the prefix."""
        self.read = read
        self.size_bytes = 4 * len(raw) + 200 * len(read.conversation.messages)
        """About what it takes in memory."""


class ChatRead(msgspec.Struct, frozen=True):
    """A chat request, read. Requests of a session that are the same have the same one."""

    ask: ChatAsk
    conversation: Conversation
    small: bytes
    """The body with at least the new messages: its other fields are those of the request."""
    sampling: bytes
    """Those as JSON that say how it asked to be sampled."""
    system_key: bytes
    """The key after the leading system messages; empty: there are none."""
    has_other_parts: bool
    """A message has image, audio or video parts: only the engine can turn those into tokens."""
    content: bytes
    """[16] digest of the route within the session and the whole body."""

    @property
    def engine_renders(self) -> bool:
        """Whether only the engine can make this prompt: other parts than text, a template of the request's own."""
        return self.has_other_parts or self.ask.chat_template is not None or bool(self.ask.documents)


def read_in_session(memo: Memo | None, request: Request, path: str) -> tuple[ChatRead, Memo | None]:
    """The request, and what to remember of it; None where its text gives no hold. Raises as `read_chat` does."""
    continued = _continued(memo, request.body) if memo is not None else None
    return _whole(request, path) if continued is None else continued


def _continued(memo: Memo, raw: bytes) -> tuple[ChatRead, Memo] | None:
    """The request as a continuation of `memo`; None: it is none, or it has a fault, which reading it whole tells."""
    known_bytes = len(memo.prefix)
    if not raw.startswith(memo.prefix):
        return None
    rest = raw[known_bytes:]
    if rest == memo.tail:
        return memo.read, memo  # another sample of the same
    rest = rest.lstrip(SPACE)
    if rest[:1] not in (b",", b"]"):
        return None
    small = memo.head + (rest[1:] if rest[:1] == b"," else rest)
    listed = _listed(small)
    if listed is None or not _is_at(small, len(memo.head) - 1, listed):
        return None
    more = listed[1:-1].rstrip(SPACE)
    if bool(more) != (rest[:1] == b","):
        return None
    try:
        ask = decode_body(small, ChatAsk)
        check_chat(ask)
    except Fault:
        return None
    before = memo.read
    known = before.conversation
    new = read_conversation(ask.messages, after=(known.keys[-1], known.loose_keys[-1]))
    conversation = Conversation(known.keys + new.keys, known.loose_keys + new.loose_keys, known.messages + new.messages)
    end = len(raw) - len(rest) + 1 + len(more) if more else known_bytes
    begun = memo.begun.plus(raw[known_bytes:end])
    all_system = before.system_key == known.keys[-1]  # then system messages may follow that still lead
    read = ChatRead(
        ask=msgspec.structs.replace(ask, messages=conversation.messages),
        conversation=conversation,
        small=small,
        sampling=sampling_of(small),
        system_key=_system_key(conversation) if all_system else before.system_key,
        has_other_parts=before.has_other_parts or _has_other_parts(ask.messages),
        content=begun.plus(raw[end:]).digest(),
    )
    return read, Memo(raw, (len(memo.head), end), begun, read)


def _whole(request: Request, path: str) -> tuple[ChatRead, Memo | None]:
    ask = read_chat(request)
    raw, conversation = request.body, read_conversation(ask.messages)
    span = _span(raw)
    end = len(raw) if span is None else span[1]
    begun = begin(path).plus(raw[:end])
    read = ChatRead(
        ask=ask,
        conversation=conversation,
        small=raw,
        sampling=sampling_of(raw),
        system_key=_system_key(conversation),
        has_other_parts=_has_other_parts(ask.messages),
        content=begun.plus(raw[end:]).digest(),
    )
    return read, None if span is None else Memo(raw, span, begun, read)


class _Messages(msgspec.Struct):
    messages: msgspec.Raw


def _listed(raw: bytes) -> bytes | None:
    """The text of the messages' list; of two the last one's. None: there is none."""
    try:
        return bytes(msgspec.json.decode(raw, type=_Messages).messages)
    except (msgspec.DecodeError, RecursionError):
        return None


def _span(raw: bytes) -> tuple[int, int] | None:
    """Where the messages' list begins (after its bracket) and where its last message ends; None: not to be told."""
    listed = _listed(raw)
    if listed is None:
        return None
    start = next((named.end() for named in NAME.finditer(raw) if raw.startswith(listed, named.end())), None)
    if start is None or not _is_at(raw, start, listed):
        return None
    return start + 1, start + len(listed[:-1].rstrip(SPACE))


def _is_at(raw: bytes, start: int, listed: bytes) -> bool:
    """Whether the messages that count stand there, and not only the same text: in another field, or named twice."""
    if not raw.startswith(listed, start):
        return False
    return _listed(b"".join((raw[:start], b"0", memoryview(raw)[start + len(listed) :]))) == b"0"


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
