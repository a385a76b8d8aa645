"""The load: many connections that stay open, each following a script of requests.

A script is a generator: it yields an `Ask`, is sent the `Reply`, and so can hold a conversation. `BARRIER` waits until
every script has come that far; what is counted begins there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Literal, cast

import httptools

__all__ = ["BARRIER", "Ask", "Reply", "Report", "Script", "run_load"]

FAULTS_KEPT = 5
MODEL_CALL = "/completions"


@dataclass(frozen=True, slots=True)
class Ask:
    path: str
    body: bytes | None = None
    """None: a GET."""
    after_s: float = 0.0
    """How long to wait before it is sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    """Without the framing of a chunked reply."""


BARRIER: Literal["barrier"] = "barrier"
Script = Generator[Ask | Literal["barrier"], Reply | None, None]


@dataclass(slots=True)
class Report:
    """What came of one load, from the barrier on."""

    requests: int = 0
    """Answered with 200."""
    errors: int = 0
    faults: list[str] = field(default_factory=list)
    """The first few errors in words."""
    calls_answered: int = 0
    """Model calls that were answered with 200, those before the barrier as well."""
    body_bytes: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """[requests] until the last byte."""
    first_byte_s: list[float] = field(default_factory=list)
    """[requests] until the first byte of the body."""
    wall_s: float = 0.0
    cpu_s: float | None = None
    """Of the stack; None where there is none."""

    def add_fault(self, fault: str) -> None:
        self.errors += 1
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(fault)


async def run_load(
    port: int, scripts: list[Script], read_cpu: Callable[[], float] | None = None, *, settle_s: float = 0.02
) -> Report:
    """Follow the scripts at once, one connection each, until all have ended.

    `settle_s` is how long the stack may still work on what it has answered before its CPU is read.
    """
    course = _Course(len(scripts), read_cpu)
    loop = asyncio.get_running_loop()
    clients = [_Client(port, script, course, loop) for script in scripts]
    try:
        for client in clients:
            await client.connect()
        for client in clients:
            client.advance(None)
        await course.ended
        ended = time.perf_counter()
    finally:
        for client in clients:
            client.close()
    await asyncio.sleep(settle_s)
    course.report.wall_s = ended - course.begun
    if read_cpu:
        course.report.cpu_s = read_cpu() - course.cpu_before
    return course.report


class _Course:
    """What the scripts have in common: the barrier and the report."""

    def __init__(self, scripts: int, read_cpu: Callable[[], float] | None) -> None:
        self.report = Report()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.counting = False
        self.begun = time.perf_counter()
        self.cpu_before = read_cpu() if read_cpu else 0.0
        self._read_cpu = read_cpu
        self._running = scripts
        self._waiting: list[_Client] = []

    def wait(self, client: _Client) -> None:
        self._waiting.append(client)
        self._go_when_all_wait()

    def end(self) -> None:
        self._running -= 1
        if self._running == 0 and not self.ended.done():
            self.ended.set_result(None)
        self._go_when_all_wait()

    def fail(self, fault: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(fault)

    def _go_when_all_wait(self) -> None:
        if not self._waiting or len(self._waiting) < self._running:
            return
        clients, self._waiting = self._waiting, []
        self.counting = True
        self.cpu_before = self._read_cpu() if self._read_cpu else 0.0
        self.begun = time.perf_counter()
        for client in clients:
            client.advance(None)


class _Client(asyncio.Protocol):
    """One connection and its script."""

    def __init__(self, port: int, script: Script, course: _Course, loop: asyncio.AbstractEventLoop) -> None:
        self._port = port
        self._script = script
        self._course = course
        self._loop = loop
        self._asked = False
        self._finished = False
        self._transport: asyncio.Transport | None = None

    async def connect(self) -> None:
        await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)

    def advance(self, reply: Reply | None) -> None:
        """Give the script its reply and do what it says next."""
        try:
            step = self._script.send(reply)
        except StopIteration:
            self._finished = True
            self._course.end()
            return
        except Exception as fault:  # a script that cannot go on ends the whole load
            self._course.fail(fault)
            return
        if isinstance(step, str):
            self._course.wait(self)
        elif step.after_s:
            self._loop.call_later(step.after_s, self._send, step)
        else:
            self._send(step)

    def close(self) -> None:
        self._finished = True
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._fail(f"not HTTP: {fault}")

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self._first_at = time.perf_counter()
        self._body.append(body)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        body = b"".join(self._body)
        status = self._parser.get_status_code()
        self._asked = False
        self._count(status, body, now)
        if self._parser.should_keep_alive():
            self.advance(Reply(status, body))
            return
        assert self._transport
        self._transport.close()
        self._reconnect(Reply(status, body))

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._asked and not self._finished:
            self._fail("connection closed before the reply's end")

    def _send(self, ask: Ask) -> None:
        assert self._transport
        self._body: list[bytes] = []
        self._asked = True
        self._path = ask.path
        if self._transport.is_closing():
            self._fail("connection closed between requests")
            return
        self._sent_at = self._first_at = time.perf_counter()
        self._transport.write(_request(ask, self._port))

    def _count(self, status: int, body: bytes, now: float) -> None:
        report = self._course.report
        if status == 200 and self._path.endswith(MODEL_CALL):
            report.calls_answered += 1
        if not self._course.counting:
            if status != 200:
                self._course.fail(RuntimeError(f"warm-up: {status}: {body[:300]!r}"))
            return
        if status != 200:
            report.add_fault(f"{status}: {body[:200]!r}")
            return
        report.requests += 1
        report.body_bytes += len(body)
        report.latencies_s.append(now - self._sent_at)
        report.first_byte_s.append(self._first_at - self._sent_at)

    def _fail(self, fault: str) -> None:
        self._asked = False
        if not self._course.counting:
            self._course.fail(RuntimeError(f"warm-up: {fault}"))
            return
        self._course.report.add_fault(fault)
        self._reconnect(Reply(0, b""))

    def _reconnect(self, reply: Reply) -> None:
        task = self._loop.create_task(self.connect())
        task.add_done_callback(
            lambda done: self._course.fail(fault) if (fault := done.exception()) else self.advance(reply)
        )
        self._connecting = task


def _request(ask: Ask, port: int) -> bytes:
    host = f"host: 127.0.0.1:{port}\r\n"
    if ask.body is None:
        return f"GET {ask.path} HTTP/1.1\r\n{host}\r\n".encode()
    head = (
        f"POST {ask.path} HTTP/1.1\r\n{host}content-type: application/json\r\ncontent-length: {len(ask.body)}\r\n\r\n"
    )
    return head.encode() + ask.body
