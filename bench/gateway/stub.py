"""The upstream of every stack: answers at once, without a model, faster than any proxy can ask.

    python -m bench.gateway.stub --port P --model models/nano

It speaks vLLM's chat and text completions (streamed ones paced), `/v1/models` and `/health`, and the `/generate` of
Atropos's own vLLM server. A prompt of token ids is echoed as it came. A chat is answered with 512 prompt ids, unless
its `user` names a turn: then with the ids of that turn of one long conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import httptools
import uvloop

from bench.gateway.replies import (
    MODEL,
    Form,
    chat_chunks,
    chat_form,
    completion_chunks,
    completion_form,
    generate_form,
    models_body,
)
from bench.gateway.speech import Speech, ids_json, load_speech, wide_answer, wide_ids
from bench.gateway.turns import VARIANTS, TurnIds, variant_of

__all__ = ["CHUNK_EVERY_S", "PROMPT_TOKENS", "Book", "serve"]

PROMPT_TOKENS = 512
CHUNK_EVERY_S = 0.005
TURN = re.compile(rb'"user":\s?"turn-(\d+)"')
PROMPT_IDS = re.compile(rb'"(?:prompt|prompt_token_ids)":\s?(\[[\d,\s]+\])')


class Book:
    """Every reply, made before the first request.

    What is answered depends on the request alone: a prompt of so many ids is always answered alike, so that a client
    knows what to expect.
    """

    def __init__(self, speech: Speech) -> None:
        self._answers = [speech.answer(seed) for seed in range(VARIANTS)]
        self._completions = [completion_form(answer) for answer in self._answers]
        self._generated = [generate_form(answer) for answer in self._answers]
        self._prompt = ids_json(wide_ids(1, PROMPT_TOKENS))
        self._wide = wide_answer(1)
        self._chat = _reply(chat_form(self._wide).fill(self._prompt))
        self._chunks = chat_chunks(self._wide, self._prompt, usage=True)
        self._turns = TurnIds()
        self._turn_forms: dict[int, Form] = {}

    def chat(self, body: bytes) -> bytes:
        """The whole HTTP reply."""
        found = TURN.search(body)
        if found is None:
            return self._chat
        turn = int(found[1])
        if turn not in self._turn_forms:
            self._turn_forms[turn] = chat_form(self._turns.answer(self._wide, turn))
        return _reply(self._turn_forms[turn].fill(self._turns.prompt(turn)))

    def completion(self, body: bytes) -> bytes:
        prompt = _prompt_ids(body)
        return _reply(self._completions[variant_of(prompt.count(b",") + 1)].fill(prompt))

    def generate(self, body: bytes) -> bytes:
        prompt = _prompt_ids(body)
        return _reply(self._generated[variant_of(prompt.count(b",") + 1)].fill(prompt))

    def chat_stream(self, body: bytes) -> list[bytes]:
        """The events, the usage only when it was asked for."""
        return self._chunks if b'"include_usage"' in body else [*self._chunks[:-2], self._chunks[-1]]

    def completion_stream(self, body: bytes) -> list[bytes]:
        prompt = _prompt_ids(body)
        answer = self._answers[variant_of(prompt.count(b",") + 1)]
        return completion_chunks(answer, prompt, usage=b'"include_usage"' in body)


class Serving(asyncio.Protocol):
    """One connection."""

    def __init__(self, book: Book, loop: asyncio.AbstractEventLoop) -> None:
        self._book = book
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._target = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body = []
        whole: dict[bytes, Callable[[bytes], bytes]] = {
            b"/v1/chat/completions": self._book.chat,
            b"/v1/completions": self._book.completion,
            b"/generate": self._book.generate,
        }
        streamed = {
            b"/v1/chat/completions": self._book.chat_stream,
            b"/v1/completions": self._book.completion_stream,
        }
        if b'"stream":true' in body or b'"stream": true' in body:
            self._stream(streamed[self._target](body))
        elif self._target in whole:
            self._transport.write(whole[self._target](body))
        else:
            self._transport.write(_other(self._target))

    def _stream(self, frames: list[bytes]) -> None:
        """The first frame at once, the others by the clock, so that a late one does not delay those after it."""
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._transport.write(head + _chunk(frames[0]))
        self._begun = self._loop.time()
        self._frames = frames
        self._loop.call_later(CHUNK_EVERY_S, self._next_frame, 1)

    def _next_frame(self, place: int) -> None:
        if self._transport.is_closing():
            return
        frames = self._frames
        if place >= len(frames) - 2:  # what ends a stream comes with its last token
            self._transport.write(b"".join(_chunk(frame) for frame in frames[place:]) + b"0\r\n\r\n")
            return
        self._transport.write(_chunk(frames[place]))
        self._loop.call_at(self._begun + (place + 1) * CHUNK_EVERY_S, self._next_frame, place + 1)


async def serve(port: int, model: Path) -> None:
    """Until it is killed."""
    book = Book(load_speech(model))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Serving(book, loop), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def _other(target: bytes) -> bytes:
    if target == b"/v1/models":
        return _reply(models_body())
    if target in (b"/health", b"/healthz", b"/version"):
        return _reply(b"{}")
    body = b'{"error":{"message":"Not Found","type":"NotFoundError","param":null,"code":404}}'
    return b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def _reply(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _chunk(frame: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(frame), frame)


def _prompt_ids(body: bytes) -> bytes:
    """As they came; a prompt of text counts as one token."""
    found = PROMPT_IDS.search(body)
    return found[1] if found else b"[1]"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.stub", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True, help=f"folder of a tokenizer; served as {MODEL}")
    args = parser.parse_args()
    uvloop.run(serve(args.port, args.model))


if __name__ == "__main__":
    main()
