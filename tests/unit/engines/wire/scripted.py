"""Servers that send the very bytes a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

Handler = Callable[[bytes, asyncio.StreamWriter, int], Awaitable[bool]]
"""Given a request's bytes, the writer and the request's number (from 0, over all connections); False: close."""


@dataclass
class Scripted:
    """What a server has seen."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    lost: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was seen fulfils it."""
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def scripted(handler: Handler, **options: object) -> AsyncIterator[Scripted]:
    """A server on a port of its own."""
    seen = Scripted()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            while (request := await read_request(reader)) is not None:
                seen.requests.append(request)
                seen.changed.set()
                if not await handler(request, writer, len(seen.requests) - 1):
                    break
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            seen.lost += 1
            seen.changed.set()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    scheme = "https" if "ssl" in options else "http"
    seen.url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield seen
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes | None:
    """Head and body; None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    return head + await reader.readexactly(length)


def always(reply: bytes, *, keep: bool = True) -> Handler:
    """The same reply to every request."""

    async def handle(request: bytes, writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(reply)
        return keep

    return handle
