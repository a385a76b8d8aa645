"""Clients that go away at every stage, that read slowly, that send what is wrong; and engines that fail."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from tests.campaigns.soak.load import Load
from tests.campaigns.soak.wire import Wire, request_bytes

__all__ = ["NUISANCES", "fail_engine"]

STAGES = ("connected", "in the head", "in the body", "asked", "at the reply's head", "in the stream")
SLOW_READS = 40
SILENT_S = 0.5
"""After it a client that looks at a reply has seen enough."""
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503, "headers": {"retry-after": "1"}},
    {"kind": "status", "status": 429},
    {"kind": "status", "status": 400},
    {"kind": "close"},
    {"kind": "silence"},
    {"kind": "die", "after": 3},
    {"kind": "no_ids"},
    {"kind": "short_logprobs"},
    {"kind": "abort"},
    {"kind": "slow", "after": 0.5},
    {"kind": "garbage"},
)
CHAT = "/v1/chat/completions"
NOT_JSON, NO_MESSAGES = b'{"messages": [', b'{"messages": []}'
WRONG: tuple[tuple[str, str, bytes, int], ...] = (
    ("POST", "{session}" + CHAT, NOT_JSON, 400),
    ("POST", "{session}" + CHAT, b"[1, 2]", 400),
    ("POST", "{session}" + CHAT, NO_MESSAGES, 400),
    ("POST", "{session}" + CHAT, b'{"messages": 5}', 400),
    ("POST", "/00000000-0000-4000-8000-000000000000" + CHAT, b'{"messages": []}', 404),
    ("POST", "/unknown/unknown" + CHAT, b'{"messages": [{"role": "user", "content": "x"}]}', 404),
    ("POST", "/sessions/create", b'{"mode": "sideways"}', 400),
    ("POST", "/submit_steps", b'{"steps": [{"trajectory_uid": "x", "prompt_ids": [-1], "response_ids": []}]}', 422),
    ("POST", "/submit_steps", NOT_JSON, 400),
    ("POST", "/pool/lease", b'{"max_groups": 0}', 422),
    ("POST", "/pool/ack", b'{"lease_ids": ["nobodys"]}', 404),
    ("POST", "/pool/marks", b'{"trajectory_uid": "nobodys", "step_index": 0, "marks": {"a": 1}}', 404),
    ("GET", "/no/such/route/at/all", b"", 404),
    ("DELETE", "/pool/stats", b"", 405),
)


async def leave(load: Load, wire: Wire, dice: random.Random) -> None:
    """Go away before a call is over."""
    made = (await load.ask(wire, "POST", "/sessions/create", {"mode": dice.choice(("exact", "passthrough"))})).json()
    stage, streamed = dice.choice(STAGES), dice.random() < 0.7
    body = {"messages": [{"role": "user", "content": "What is it?"}], "max_tokens": 256, "stream": streamed}
    asked = request_bytes("POST", f"/{made['uuid']}{CHAT}", body)
    cut = {"connected": 0, "in the head": 30, "in the body": len(asked) - 20}.get(stage, len(asked))
    await load.pace.turn()
    async with wire.opened() as (reader, writer):
        writer.write(asked[:cut])
        await writer.drain()
        if stage == "at the reply's head":
            await _some(reader, 1)
        elif stage == "in the stream":
            for _ in range(dice.randrange(1, 6)):
                await _some(reader, 200)
        else:
            await asyncio.sleep(dice.random() * 0.02)
    load.findings.count(f"clients that left: {stage}")


async def read_slowly(load: Load, wire: Wire, dice: random.Random) -> None:
    """A page of everything, or the events, a little at a time; some leave in the middle of it."""
    path = dice.choice(("/pool/steps?limit=500", "/pool/events?cursor=0", "/metrics"))
    async with wire.opened() as (reader, writer):
        writer.write(request_bytes("GET", path))
        for _ in range(dice.randrange(SLOW_READS)):
            if not await _some(reader, 4096):
                break
            await asyncio.sleep(0.02)
    load.findings.count("slow readers")


async def _some(reader: asyncio.StreamReader, most: int) -> bytes:
    """What is there; empty: nothing more comes."""
    try:
        async with asyncio.timeout(SILENT_S):
            return await reader.read(most)
    except TimeoutError:
        return b""


async def send_wrong(load: Load, wire: Wire, dice: random.Random) -> None:
    """What is none of a request; the gateway says what it documents."""
    made = (await load.ask(wire, "POST", "/sessions/create", {})).json()["uuid"]
    for method, path, body, status in dice.sample(WRONG, 4):
        await load.ask(wire, method, path.replace("{session}", f"/{made}"), body or None, allowed=(status,))
        load.findings.count("wrong requests, refused as documented")
    await load.ask(wire, "DELETE", f"/{made}")
    async with wire.opened() as (reader, writer):
        writer.write(
            dice.choice((b"NONSENSE\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"))
        )
        said = await reader.read()
        load.findings.check(said.startswith(b"HTTP/1.1 4"), f"what is no HTTP was answered {said[:100]!r}")


async def look(load: Load, wire: Wire, dice: random.Random) -> None:
    """What operators and trainers look at."""
    for path in ("/metrics", "/health", "/pool/stats", "/pool/trajectories?limit=50", "/servers"):
        await load.ask(wire, "GET", path, allowed=(200, 503) if path == "/health" else (200,))


NUISANCES = {leave: 5, read_slowly: 1, send_wrong: 2, look: 1}
"""And how often each is, of all."""


async def fail_engine(load: Load, dice: random.Random) -> None:
    """The next model call of one engine is spoiled."""
    fault = dice.choice(FAULTS)
    async with Wire(dice.choice(load.engine_ports)).opened() as (reader, writer):
        writer.write(request_bytes("POST", "/stub/faults", json.dumps([fault]).encode()))
        await reader.readuntil(b"\r\n\r\n")
    load.findings.count(f"engine faults: {fault['kind']}")
