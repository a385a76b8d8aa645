"""What the clients say: single chats, sessions, conversations of many turns, streams."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from bench.gateway.load import BARRIER, Ask, Reply, Script
from bench.gateway.replies import MODEL
from bench.gateway.speech import Speech
from bench.gateway.turns import prompt_tokens, variant_of

__all__ = [
    "CHAT",
    "CONVERSATION_TURNS",
    "LONG_CONVERSATION_TURNS",
    "Bodies",
    "chat_body",
    "chats",
    "conversation",
    "in_session",
    "make_bodies",
    "make_session",
    "talk_bodies",
]

CHAT = "/v1/chat/completions"
WARM_UPS = 2
CALLS_PER_SESSION = 8
"""Samples of one prompt in one session, before the next session is made."""
CONVERSATION_TURNS = 6
"""64 new ids and 128 sampled ones a turn: 544 prompt ids in the mean."""
LONG_CONVERSATION_TURNS = 24
"""2272 prompt ids in the mean."""
USER_TOKENS = 55
"""With what a chat template puts around it: 64 new ids a turn."""
REQUEST_BYTES = 2100


@dataclass(frozen=True, slots=True)
class Bodies:
    """Requests, made once."""

    chat: bytes
    """A single chat of 2.1 KB that asks for token ids and log probabilities."""
    stream: bytes
    """The same, streamed."""
    session_chat: bytes
    """As an agent asks, which knows of no ids."""
    session_stream: bytes
    talk: list[tuple[bytes, str]]
    """[turns] of a conversation: the request, and the text of its answer."""


def make_bodies(speech: Speech) -> Bodies:
    messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": _text(speech)}]
    asked = {"logprobs": True, "return_token_ids": True}
    return Bodies(
        chat=chat_body(messages, **asked),
        stream=chat_body(messages, **asked, stream=True),
        session_chat=chat_body(messages),
        session_stream=chat_body(messages, stream=True),
        talk=talk_bodies(speech),
    )


def chat_body(messages: list[dict[str, str]], **more: Any) -> bytes:
    body = {"model": MODEL, "messages": messages, "max_tokens": 128, "temperature": 1.0, **more}
    return json.dumps(body, separators=(",", ":")).encode()


def talk_bodies(speech: Speech) -> list[tuple[bytes, str]]:
    """A conversation with the stub, which is known before it is held: [turns] request and the text of its answer."""
    messages: list[dict[str, str]] = []
    turns = []
    for turn in range(LONG_CONVERSATION_TURNS):
        messages.append({"role": "user", "content": speech.user_text(1000 + turn, USER_TOKENS)})
        said = speech.answer(variant_of(prompt_tokens(turn + 1))).text
        turns.append((chat_body(messages), said))
        messages.append({"role": "assistant", "content": said})
    return turns


def chats(path: str, body: bytes, times: int, *, after_s: float = 0.0, warm_up: bytes | None = None) -> Script:
    """The same chat, over and over; `after_s`: when the first one that counts begins."""
    for _ in range(WARM_UPS):
        yield Ask(path, warm_up or body)
    yield BARRIER
    for place in range(times):
        yield Ask(path, body, after_s if place == 0 else 0.0)


def in_session(create: bytes, body: bytes, times: int, *, after_s: float = 0.0, warm_up: bytes | None = None) -> Script:
    """The same, in sessions of its own, all made before it counts."""
    uuids: list[str] = []
    for _ in range(-(-times // CALLS_PER_SESSION)):
        uuids.append((yield from make_session(create)))
    for _ in range(WARM_UPS):
        yield Ask(f"/{uuids[0]}{CHAT}", warm_up or body)
    yield BARRIER
    for place in range(times):
        yield Ask(f"/{uuids[place // CALLS_PER_SESSION]}{CHAT}", body, after_s if place == 0 else 0.0)


def conversation(create: bytes | None, turns: list[tuple[bytes, str]], times: int) -> Script:
    """Conversations of many turns, in sessions of their own; `create` None: the same requests by model name."""
    paths = []
    for _ in range(times + 1):
        paths.append(CHAT if create is None else f"/{(yield from make_session(create))}{CHAT}")
    yield from _talk(paths[0], turns[:WARM_UPS], check=create is not None)
    yield BARRIER
    for path in paths[1:]:
        yield from _talk(path, turns, check=create is not None)


def make_session(create: bytes) -> Generator[Ask, Reply | None, str]:
    """Gives the uuid."""
    reply = yield Ask("/sessions/create", create)
    assert reply is not None
    uuid: str = json.loads(reply.body)["uuid"]
    return uuid


def _talk(path: str, turns: list[tuple[bytes, str]], *, check: bool) -> Script:
    for body, said in turns:
        reply = yield Ask(path, body)
        assert reply is not None
        if check and reply.status == 200 and said.encode() not in reply.body:
            raise RuntimeError(f"{path} answered {reply.body[:300]!r}, not {said[:80]!r}")


def _text(speech: Speech) -> str:
    text = speech.user_text(500, 600)
    return (text * 3)[: REQUEST_BYTES - 170]
