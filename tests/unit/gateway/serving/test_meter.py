"""How many tokens a reply took."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from moorage.gateway.serving.meter import Meter

USAGE = b'{"prompt_tokens":12,"completion_tokens":6,"total_tokens":18}'
LAST = b'data: {"id":"x","choices":[],"usage":' + USAGE + b"}\n\n"
DONE = b"data: [DONE]\n\n"


def event(text: str, **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **more}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"usage":' + USAGE + b"}", [18]),
        (b'{"usage":{"prompt_tokens":3}}', [3]),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":null}}', [7]),
        (b'{"usage":null}', []),
        (b'{"error":{"message":"no"}}', []),
        (b'{"usage":"many"}', []),
        (b"<html>", []),
        (b"\xff", []),
    ],
)
def test_a_whole_reply(body: bytes, tokens: list[int]) -> None:
    counted: list[int] = []
    Meter(counted.append).whole(body)
    assert counted == tokens


def through(*pieces: bytes, body: bytes = b'{"stream":true}', take: int | None = None) -> tuple[bytes, list[int]]:
    """(what the client gets, what was counted). `take`: it goes away after so many frames."""
    counted: list[int] = []
    meter = Meter(counted.append)
    meter.asking(body)

    async def frames() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            yield piece

    async def main() -> bytes:
        got, stream = b"", meter.stream(frames())
        taken = 0
        async for frame in stream:
            got += frame
            taken += 1
            if taken == take:
                break
        await stream.aclose()
        return got

    return asyncio.run(main()), counted


def test_a_stream_is_counted_and_what_only_we_asked_for_is_taken_out() -> None:
    whole = event("a") + event("b", usage=None) + LAST + DONE
    for size in (1, 7, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        got, counted = through(*pieces)
        assert got == event("a") + event("b", usage=None) + DONE
        assert counted == [18]


def test_a_client_that_asked_for_usage_gets_it() -> None:
    body = b'{"stream":true,"stream_options":{"include_usage":true}}'
    assert Meter(lambda _: None).asking(body) is body
    got, counted = through(event("a"), LAST, DONE, body=body)
    assert got == event("a") + LAST + DONE
    assert counted == [18]


def test_other_options_of_the_stream_stay() -> None:
    asked = Meter(lambda _: None).asking(b'{"a": 1, "stream_options": {"x": 2, "include_usage": false}}')
    assert json.loads(asked) == {"a": 1, "stream_options": {"x": 2, "include_usage": True}}
    asked = Meter(lambda _: None).asking(b'{"stream":true,"stream_options":null}')
    assert json.loads(asked) == {"stream": True, "stream_options": {"include_usage": True}}


def test_a_stream_that_is_broken_off_counts_its_events() -> None:
    _, counted = through(event("a"), event("b"), event("c"), LAST, take=2)
    assert counted == [2]
    got, counted = through(event("a"), b'data: {"error":{"message":"no"}}\n\n', b"data: half")
    assert counted == [1]
    assert got.endswith(b"data: half")
