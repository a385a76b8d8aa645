"""The least that a capturing gateway in Python can be: what it costs is the floor under the gateway's own figures.

    python -m bench.gateway.sketch --port P --upstream-port P --db FILE

It relays, reads the ids and log probabilities out of each reply, packs them, and sends the reply on when a row with
them is on the disk; rows that wait share one commit. That is all: no routes, sessions, matching, hashes, checks, time
limits, retries or cancellation, and what it does not expect ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import sqlite3
import threading
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import uvloop

__all__ = ["serve"]

HEAD_END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: stub\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
WANTED = b',"logprobs":true,"return_token_ids":true}'
TABLE = "CREATE TABLE calls (id INTEGER PRIMARY KEY, prompt BLOB, sampled BLOB, logprobs BLOB)"


class _Token(msgspec.Struct):
    logprob: float


class _Logprobs(msgspec.Struct):
    content: list[_Token]


class _Choice(msgspec.Struct):
    token_ids: list[int]
    logprobs: _Logprobs


class _Said(msgspec.Struct):
    prompt_token_ids: list[int]
    choices: list[_Choice]


READ = msgspec.json.Decoder(_Said)

Row = tuple[bytes, bytes, bytes]


class Store:
    """Rows in SQLite, committed together by a thread of their own."""

    def __init__(self, file: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._file, self._loop = file, loop
        self._waiting: queue.SimpleQueue[tuple[Row, Callable[[], None]]] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def add(self, row: Row, durable: Callable[[], None]) -> None:
        """`durable` is called in the loop."""
        self._waiting.put((row, durable))

    def _write(self) -> None:
        db = sqlite3.connect(self._file, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(TABLE)
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            db.execute("BEGIN")
            db.executemany("INSERT INTO calls (prompt, sampled, logprobs) VALUES (?, ?, ?)", [row for row, _ in batch])
            db.execute("COMMIT")
            self._loop.call_soon_threadsafe(_call_all, [durable for _, durable in batch])


class _Messages(asyncio.Protocol):
    """HTTP messages with a length, one after the other."""

    def __init__(self) -> None:
        self.transport = cast(asyncio.Transport, None)
        self._read = bytearray()
        self._whole = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._whole:
            end = self._read.find(HEAD_END)
            if end < 0:
                return
            at = self._read.lower().find(b"content-length:", 0, end)
            length = 0 if at < 0 else int(self._read[at + 15 : self._read.find(b"\r", at)])
            self._body_at = end + len(HEAD_END)
            self._whole = self._body_at + length
        if len(self._read) >= self._whole:
            head, body = bytes(self._read[: self._body_at]), bytes(self._read[self._body_at : self._whole])
            self._read.clear()
            self._whole = 0
            self.message(head, body)

    def message(self, head: bytes, body: bytes) -> None:
        """One came."""
        raise NotImplementedError


class _Engine(_Messages):
    """A connection to the stub, used again and again."""

    def __init__(self, idle: deque[_Engine]) -> None:
        super().__init__()
        self._idle = idle
        self.answered: Callable[[bytes], None] = _nobody

    def message(self, _head: bytes, body: bytes) -> None:
        self._idle.append(self)
        self.answered(body)


class _Client(_Messages):
    def __init__(self, sketch: Sketch) -> None:
        super().__init__()
        self._sketch = sketch

    def message(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            self._reply(b"{}")
        elif head.startswith(b"POST /sessions/create"):
            self._reply(b'{"uuid":"any"}')
        else:
            self._sketch.ask(body[:-1] + WANTED, self._captured)

    def _captured(self, raw: bytes) -> None:
        said = READ.decode(raw)
        choice = said.choices[0]
        row = (
            array("i", said.prompt_token_ids).tobytes(),
            array("i", choice.token_ids).tobytes(),
            array("d", [token.logprob for token in choice.logprobs.content]).tobytes(),
        )
        self._sketch.store.add(row, lambda: self._reply(raw))

    def _reply(self, body: bytes) -> None:
        self.transport.write(OK % len(body) + body)


class Sketch:
    """The relay."""

    def __init__(self, upstream_port: int, store: Store) -> None:
        self._port, self.store = upstream_port, store
        self._idle: deque[_Engine] = deque()

    def ask(self, body: bytes, answered: Callable[[bytes], None]) -> None:
        """Send it to the stub, over a connection that is free or a new one."""
        if self._idle:
            _send(self._idle.pop(), body, answered)
            return
        connecting = asyncio.get_running_loop().create_connection(lambda: _Engine(self._idle), "127.0.0.1", self._port)
        task = asyncio.ensure_future(connecting)
        task.add_done_callback(lambda done: _send(done.result()[1], body, answered))


async def serve(port: int, upstream_port: int, file: Path) -> None:
    """Until it is ended."""
    loop = asyncio.get_running_loop()
    sketch = Sketch(upstream_port, Store(file, loop))
    server = await loop.create_server(lambda: _Client(sketch), "127.0.0.1", port)
    await server.serve_forever()


def _send(engine: _Engine, body: bytes, answered: Callable[[bytes], None]) -> None:
    engine.answered = answered
    engine.transport.write(ASK % len(body) + body)


def _nobody(body: bytes) -> None:
    raise RuntimeError(f"nobody asked for {body[:100]!r}")


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream-port", type=int, required=True)
    parser.add_argument("--db", type=Path, required=True)
    words = parser.parse_args()
    uvloop.run(serve(words.port, words.upstream_port, words.db))
