"""A small HTTP/1.1 client, that costs little and can go away wherever it likes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "Wire", "request_bytes"]

WITHIN_S = 60.0


@dataclass(frozen=True)
class Answer:
    """A reply whose last byte came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The data of server-sent events."""
        return [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]


class Wire:
    """One client: its connection is kept and opened anew when the gateway closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pair: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """`body`: bytes as they are, anything else as JSON, None none. Raises OSError, EOFError: it did not come whole.

        TimeoutError is an OSError: nothing came for a minute.
        """
        try:
            async with asyncio.timeout(WITHIN_S):
                reader, writer = self._pair or await self.open()
                self._pair = reader, writer
                writer.write(request_bytes(method, path, body, headers))
                answer = await _read(reader)
        except BaseException:
            self.close()
            raise
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own, that nobody keeps."""
        return await asyncio.open_connection("127.0.0.1", self._port)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection for one purpose, dropped at the end."""
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await self.open()
            try:
                yield reader, writer
            finally:
                writer.transport.abort()

    def close(self) -> None:
        if self._pair is not None:
            self._pair[1].transport.abort()
            self._pair = None


def request_bytes(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
    """The whole request."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: soak", f"content-length: {len(content)}"]
    lines += ["content-type: application/json"] if content else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join([piece async for piece in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(head[0].split()[1]), headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\n")), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\n")
