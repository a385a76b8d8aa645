"""A wire tap between gateway and engine: passes every byte on as it comes, and keeps what was asked and answered."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

__all__ = ["Exchange", "Observer"]

PIECE = 1 << 16


@dataclass
class Exchange:
    """One request and what the engine said to it."""

    path: str
    request: bytes
    status: int = 0
    reply: bytearray = field(default_factory=bytearray)
    """The body, chunks joined."""
    whole: bool = False
    """Whether the reply's end was seen; otherwise one side went away before."""


class Observer:
    """Listens in a thread of its own; `url` is the engine's for the gateway."""

    def __init__(self, engine_url: str) -> None:
        split = urlsplit(engine_url)
        self._engine = (split.hostname or "127.0.0.1", split.port or 80)
        self.exchanges: list[Exchange] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(30)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, asked: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [answer]
        passing: list[asyncio.Future[None]] = []
        try:
            answers, ask = await asyncio.open_connection(*self._engine)
            writers.append(ask)
            line = _Line(self.exchanges)
            ways = [_pass(asked, ask, line.asks), _pass(answers, answer, line.answers)]
            passing += map(asyncio.ensure_future, ways)
            # Either side's end is the other's: an engine must see that its client went away.
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the engine is not there, and its client sees a closed connection; or all is over
        finally:
            for one in passing:
                one.cancel()
            self._tasks.discard(task)
            for writer in writers:
                with contextlib.suppress(OSError):
                    writer.close()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter, parser: Any) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE):
            parser.feed_data(piece)  # before it goes on, so that a request is known before its reply
            sink.write(piece)
            await sink.drain()


class _Line:
    """One connection: requests and replies in turn."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self._exchanges = exchanges
        self._now: Exchange | None = None
        self.asks = httptools.HttpRequestParser(_Asks(self))
        self.answers = httptools.HttpResponseParser(_Answers(self))

    def begin(self, path: str, body: bytes) -> None:
        self._now = Exchange(path, body)
        self._exchanges.append(self._now)

    def status(self) -> None:
        if self._now is not None:
            self._now.status = self.answers.get_status_code()

    def body(self, piece: bytes) -> None:
        if self._now is not None:
            self._now.reply += piece

    def end(self) -> None:
        if self._now is not None:
            self._now.whole = True
            self._now = None


class _Asks:
    def __init__(self, line: _Line) -> None:
        self._line, self._path, self._body = line, b"", b""

    def on_url(self, url: bytes) -> None:
        self._path, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._line.begin(self._path.decode(), self._body)


class _Answers:
    def __init__(self, line: _Line) -> None:
        self._line = line

    def on_headers_complete(self) -> None:
        self._line.status()

    def on_body(self, body: bytes) -> None:
        self._line.body(body)

    def on_message_complete(self) -> None:
        self._line.end()
