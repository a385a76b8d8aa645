"""How the workers of one parent ask and tell each other things: Unix sockets in a folder that only their user can open.

A question is a connection of its own; what is told goes over one that is kept, so it arrives in order. A worker that
has died answers nobody; what it was not told it reads from the store when it starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from moorage.errors import MoorageError
from moorage.gateway.log import Log

__all__ = ["Answer", "Peers"]

Answer = Callable[[bytes], Awaitable[bytes]]
"""What a worker says to a question; what it raises is logged, and the asker gets no answer."""

WITHIN_S = 1.0
UNTOLD_BYTES = 16 << 20
"""What is kept for a worker that does not take it; more is dropped."""
HELLO = "hello"
LARGEST_BYTES = 64 << 20
LENGTH = struct.Struct("<I")


class _Said(msgspec.Struct, array_like=True, frozen=True):
    what: str
    said: bytes
    asks: bool
    """Whether an answer is waited for."""


class Peers:
    """The other workers of this one's parent. Belongs to one event loop."""

    def __init__(self, folder: Path, index: int, count: int, *, log: Log) -> None:
        self.index = index
        self.count = count
        self._folder = folder
        self._log = log
        self._answers: dict[str, Answer] = {}
        self._lines = {other: _Line(self._place(other)) for other in range(count) if other != index}
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.on(HELLO, self._greeted)

    def on(self, what: str, answer: Answer) -> None:
        """What is answered to a question, or done when something is told, of that name. Before `start`."""
        self._answers[what] = answer

    async def start(self) -> None:
        """Begin to answer. Raises OSError."""
        place = self._place(self.index)
        place.unlink(missing_ok=True)  # of the one whose place this worker takes
        self._server = await asyncio.start_unix_server(self._begin, path=place)
        for line in self._lines.values():
            line.start()
            line.connect()
        self.tell(HELLO, bytes((self.index,)))

    async def close(self) -> None:
        """Answer no more."""
        for line in self._lines.values():
            await line.close()
        if self._server is None:
            return
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        self._place(self.index).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are there still, or the parent was first
            self._folder.rmdir()

    async def ask(self, what: str, said: bytes = b"", *, within_s: float = WITHIN_S) -> list[tuple[int, bytes]]:
        """(worker, answer) of those that answered in time, by worker."""
        others = list(self._lines)
        answers = await asyncio.gather(*(self.ask_one(one, what, said, within_s=within_s) for one in others))
        return [(one, answer) for one, answer in zip(others, answers, strict=True) if answer is not None]

    async def ask_one(self, index: int, what: str, said: bytes = b"", *, within_s: float | None) -> bytes | None:
        """The answer of one worker; None: it gave none in time (`within_s` None: as long as it lives), or has died."""
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_unix_connection(str(self._place(index)))
                try:
                    writer.write(_frame(msgspec.msgpack.encode(_Said(what, said, True))))
                    return await _read_frame(reader)
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None

    def tell(self, what: str, said: bytes = b"") -> None:
        """Tell all others, in the order of the calls, without waiting."""
        frame = _frame(msgspec.msgpack.encode(_Said(what, said, False)))
        for line in self._lines.values():
            line.send(frame)

    def tell_one(self, index: int, what: str, said: bytes = b"") -> None:
        """Tell one of them, in the order of the calls, without waiting."""
        self._lines[index].send(_frame(msgspec.msgpack.encode(_Said(what, said, False))))

    async def _greeted(self, said: bytes) -> bytes:
        """Another worker has started."""
        if said[0] in self._lines:
            self._lines[said[0]].connect()
        return b""

    def _place(self, index: int) -> Path:
        return self._folder / str(index)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heard = msgspec.msgpack.decode(await _read_frame(reader), type=_Said)
                answer = await self._answer(heard)
                if answer is None:
                    return
                if heard.asks:
                    writer.write(_frame(answer))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, msgspec.DecodeError):
            return  # the other one is gone, or no worker
        finally:
            writer.close()

    async def _answer(self, heard: _Said) -> bytes | None:
        """None: there is none, and the connection is closed."""
        answer = self._answers.get(heard.what)
        if answer is None:
            return None
        try:
            return await answer(heard.said)
        except (MoorageError, msgspec.DecodeError, OSError) as fault:
            self._log.fault(fault, peers=heard.what)
            return None if heard.asks else b""


class _Line:
    """What is told to one other worker, in order."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: list[bytes] = []
        """Said while there was no connection."""
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()

    def connect(self) -> None:
        """Anew: the other worker is a new process."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._wanted.set()

    def send(self, frame: bytes) -> None:
        """At once where there is a connection, so before the reply to whoever caused it."""
        if self._writer is not None and not self._writer.is_closing():
            if self._writer.transport.get_write_buffer_size() < UNTOLD_BYTES:
                self._writer.write(frame)
            return
        self._waiting.append(frame)
        self._wanted.set()

    async def _keep_connected(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                _, writer = await asyncio.open_unix_connection(str(self._place))
            except OSError:  # it is away; when it comes back it says so, and reads what it was not told from the store
                self._waiting.clear()
                continue
            self._writer = writer
            waiting, self._waiting = self._waiting, []
            writer.write(b"".join(waiting))


def _frame(content: bytes) -> bytes:
    return LENGTH.pack(len(content)) + content


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > LARGEST_BYTES:
        raise OSError(f"a message of {length} bytes")
    return await reader.readexactly(length)
