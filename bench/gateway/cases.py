"""The cases: which stacks are asked what, at which concurrency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.gateway.accounting import median_fdatasync_s
from bench.gateway.load import Script
from bench.gateway.measuring import Case, Contestant
from bench.gateway.scripts import (
    CHAT,
    CONVERSATION_TURNS,
    LONG_CONVERSATION_TURNS,
    Bodies,
    chats,
    conversation,
    in_session,
)
from bench.gateway.stacks.contract import Running
from bench.gateway.turns import NEW_TOKENS

__all__ = ["LONG", "SHORT", "WORKERS_CASE", "Size", "build_cases"]

RECORD_BYTES = 4 * 512 + 12 * 128 + 700
"""Of one stored call with 512 prompt ids and 128 sampled ones."""
STREAM_LENGTH_S = 0.64
WORKERS_CASE = "workers"
CREATE_PASSTHROUGH = b'{"mode":"passthrough"}'
CREATE_EXACT = b'{"mode":"exact"}'
CREATE_ATROPOS = b"{}"
assert NEW_TOKENS == 64  # what the texts are cut for


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked: requests (or conversations) a client and round."""

    rounds: int
    chats_16: int
    chats_64: int
    chats_alone: int
    slow_chats: int
    """For peers that take milliseconds a request."""
    conversations: int
    slow_conversations: int
    long_conversations: bool
    """Whether those of 24 turns are held as well."""
    streams: int
    """At once."""
    fdatasyncs: int
    long_sessions: int
    """That grow to 200 turns."""


SHORT = Size(5, 100, 32, 200, 6, 2, 1, False, 16, 50, 6)
LONG = Size(9, 200, 64, 1000, 10, 6, 2, True, 32, 200, 12)


@dataclass(frozen=True, slots=True)
class _Builder:
    stacks: dict[str, Running]
    stub_port: int

    def contestant(
        self,
        name: str,
        stack: str,
        scripts: Callable[[], list[Script]],
        *,
        streams: bool = False,
        captures: bool = False,
    ) -> list[Contestant]:
        """Empty where the stack is missing, so that a case goes on without it."""
        if stack == "direct":
            return [Contestant(name, self.stub_port, None, scripts)]
        running = self.stacks.get(stack)
        if running is None:
            return []
        return [Contestant(name, running.stream_port if streams else running.port, running, scripts, captures)]


def build_cases(stacks: dict[str, Running], stub_port: int, bodies: Bodies, size: Size, disk: Path) -> list[Case]:
    """All cases over the stacks that run here: nginx, moorage, moorage-exact, vllm-router, litellm, atropos."""
    builder = _Builder(stacks, stub_port)
    return [
        _pass_through(builder, bodies, size),
        _capture_64(builder, bodies, size),
        *([_capture_16(builder, bodies, size)] if "litellm" in stacks else []),
        _exact(builder, bodies, size, CONVERSATION_TURNS),
        *([_exact(builder, bodies, size, LONG_CONVERSATION_TURNS)] if size.long_conversations else []),
        _alone(builder, bodies, size, disk),
        _streams(builder, bodies, size),
        *([_workers(builder, bodies, size)] if "moorage-4" in stacks else []),
    ]


def _pass_through(builder: _Builder, bodies: Bodies, size: Size) -> Case:
    plain = partial(_times, 16, chats, CHAT, bodies.chat, size.chats_16)
    return Case(
        "pass",
        "pass-through by model, 16 at once",
        [
            *builder.contestant("direct", "direct", plain),
            *builder.contestant("nginx", "nginx", plain),
            *builder.contestant("moorage", "moorage", plain),
            *builder.contestant("vllm-router", "vllm-router", plain),
        ],
    )


def _capture_64(builder: _Builder, bodies: Bodies, size: Size) -> Case:
    return Case(
        "capture64",
        "session capture, engine-rendered, durable, 64 at once",
        [
            *builder.contestant("nginx", "nginx", partial(_times, 64, chats, CHAT, bodies.chat, size.chats_64)),
            *builder.contestant(
                "moorage",
                "moorage",
                partial(_times, 64, in_session, CREATE_PASSTHROUGH, bodies.session_chat, size.chats_64),
                captures=True,
            ),
            *builder.contestant(
                "sketch",
                "sketch",
                partial(_times, 64, in_session, CREATE_PASSTHROUGH, bodies.session_chat, size.chats_64),
            ),
        ],
    )


def _capture_16(builder: _Builder, bodies: Bodies, size: Size) -> Case:
    return Case(
        "capture16",
        "session capture, engine-rendered, durable, 16 at once (LiteLLM stores nothing)",
        [
            *builder.contestant("nginx", "nginx", partial(_times, 16, chats, CHAT, bodies.chat, size.chats_16)),
            *builder.contestant(
                "moorage",
                "moorage",
                partial(_times, 16, in_session, CREATE_PASSTHROUGH, bodies.session_chat, size.chats_16),
                captures=True,
            ),
            *builder.contestant("litellm", "litellm", partial(_times, 16, chats, CHAT, bodies.chat, size.slow_chats)),
        ],
    )


def _exact(builder: _Builder, bodies: Bodies, size: Size, turns: int) -> Case:
    talk = bodies.talk[:turns]

    def contestant(
        name: str, stack: str, create: bytes | None, times: int, *, captures: bool = False
    ) -> list[Contestant]:
        scripts = partial(_times, 16, conversation, create, talk, times)
        return builder.contestant(name, stack, scripts, captures=captures)

    fewer = 1 if turns > CONVERSATION_TURNS else None
    return Case(
        "exact" if turns == CONVERSATION_TURNS else f"exact{turns}",
        f"conversations of {turns} turns, exact ids, durable, 16 at once (Atropos keeps them in memory)",
        [
            *contestant("nginx", "nginx", None, fewer or size.conversations),
            *contestant("moorage", "moorage-exact", CREATE_EXACT, fewer or size.conversations, captures=True),
            *contestant("atropos", "atropos", CREATE_ATROPOS, fewer or size.slow_conversations),
        ],
    )


def _alone(builder: _Builder, bodies: Bodies, size: Size, disk: Path) -> Case:
    plain = partial(_times, 1, chats, CHAT, bodies.chat, size.chats_alone)
    return Case(
        "alone",
        "one at a time, durable",
        [
            *builder.contestant("direct", "direct", plain),
            *builder.contestant("nginx", "nginx", plain),
            *builder.contestant(
                "moorage",
                "moorage",
                partial(_times, 1, in_session, CREATE_PASSTHROUGH, bodies.session_chat, size.chats_alone),
                captures=True,
            ),
        ],
        between=partial(median_fdatasync_s, disk, RECORD_BYTES, size.fdatasyncs),
    )


def _streams(builder: _Builder, bodies: Bodies, size: Size) -> Case:
    plain = partial(_staggered, size.streams, chats, CHAT, bodies.stream, bodies.chat)
    captured = partial(
        _staggered, size.streams, in_session, CREATE_PASSTHROUGH, bodies.session_stream, bodies.session_chat
    )
    return Case(
        "stream",
        f"{size.streams} streams of 128 chunks, one every 5 ms each",
        [
            *builder.contestant("direct", "direct", plain),
            *builder.contestant("nginx", "nginx", plain, streams=True),
            *builder.contestant("moorage", "moorage", plain),
            *builder.contestant("moorage captured", "moorage", captured, captures=True),
            *builder.contestant("vllm-router", "vllm-router", plain),
        ],
    )


def _workers(builder: _Builder, bodies: Bodies, size: Size) -> Case:
    """Several workers are given as much each as one alone, on the one core that all have."""

    def contestant(name: str, stack: str, clients: int) -> list[Contestant]:
        times = size.chats_64 * 64 // clients
        scripts = partial(_times, clients, in_session, CREATE_PASSTHROUGH, bodies.session_chat, times)
        return builder.contestant(name, stack, scripts, captures=True)

    return Case(
        WORKERS_CASE,
        "session capture, durable, 64 at once for each worker",
        [
            *contestant("moorage", "moorage", 64),
            *contestant("moorage 4 workers", "moorage-4", 256),
            *contestant("moorage postgres", "moorage-postgres", 64),
            *contestant("moorage postgres 4 workers", "moorage-postgres-4", 256),
        ],
    )


def _times(clients: int, make: Callable[..., Script], *words: object) -> list[Script]:
    return [make(*words) for _ in range(clients)]


def _staggered(
    clients: int, make: Callable[..., Script], where: str | bytes, body: bytes, warm_up: bytes
) -> list[Script]:
    """Streams that begin one after the other: a start of all at once would measure the start."""
    apart_s = STREAM_LENGTH_S / clients
    return [make(where, body, 1, after_s=(place + 0.5) * apart_s, warm_up=warm_up) for place in range(clients)]
