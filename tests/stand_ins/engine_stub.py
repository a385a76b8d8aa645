"""An upstream in one process that speaks as vLLM does, for tests that need faults and for measurements that need speed.

It never looks like a better engine than it is: what it says follows the replies of vLLM 0.32, field by field and in
their order (`tests/real/test_vllm_dialect.py` compares). Replies come from `tests.stand_ins.canned_replies` (fixed
sizes, made once, fast) or from `tests.stand_ins.small_engine` (a real tokenizer, deterministic text).

    python -m tests.stand_ins.engine_stub --port 0 [--tokenizer models/nano]

In a test: `async with EngineStub() as stub:`; `stub.faults.append(Fault(...))` spoils the next model request, and
`stub.requests` has what came. In another process `POST /stub/faults` and `GET /stub/requests` do the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import httptools

from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.stub_reply import StubReply

Kind = Literal["status", "close", "silence", "die", "no_ids", "short_logprobs", "abort", "slow", "garbage"]
MODEL_ROUTES = ("/v1/chat/completions", "/v1/completions", "/inference/v1/generate", "/generate")


@dataclass
class Fault:
    """What happens to one model request. Fields that a kind has no use for are ignored.

    `status`: answer `status` with `body`. `close`: close without a byte. `silence`: never answer. `die`: close after
    `after` chunks of a stream (or half of a body). `no_ids`, `short_logprobs`, `abort`: spoil the reply's content.
    `slow`: answer after `after` seconds. `garbage`: answer what is not HTTP.
    """

    kind: Kind
    status: int = 500
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 1


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: bool = False
    """Whether the client closed before its reply was complete."""

    def json(self) -> Any:
        return json.loads(self.body)


Replier = Callable[[str, bytes], StubReply]
"""From path and body to a reply: an error is one too."""


class EngineStub:
    """A server on a port of its own; `healthy` is what `/health` says."""

    def __init__(
        self, replies: Replier | None = None, *, models: tuple[str, ...] = ("stub",), pace_s: float = 0
    ) -> None:
        self.replies = replies or CannedReplies(models[0])
        self.models = models
        self.pace_s = pace_s
        self.healthy = True
        self.key: str | None = None
        """What every request must show as its bearer; None: nothing."""
        self.faults: deque[Fault] = deque()
        self.requests: list[Seen] = []
        """Model requests only, in order; none are kept when `keeps` is False."""
        self.keeps = True
        self.in_flight = 0
        self.changed = asyncio.Event()
        """Set whenever a request came or went: clear it, look, wait."""
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Listen; on 0 the system chooses."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection, as a killed engine does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def __aenter__(self) -> EngineStub:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def until(self, condition: Callable[[], bool], within_s: float = 30) -> None:
        """Wait for something that requests change."""
        async with asyncio.timeout(within_s):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    # What is not a model request.

    def small_reply(self, method: str, path: str, body: bytes) -> StubReply:
        if path in ("/health", "/ping", "/health/"):
            return StubReply(200 if self.healthy else 503, b"")
        if path == "/v1/models":
            return StubReply(
                200, json.dumps({"object": "list", "data": [self._card(name) for name in self.models]}).encode()
            )
        if path == "/stub/faults":
            self.faults.extend(Fault(**fault) for fault in json.loads(body))
            return StubReply(200, b"{}")
        if path == "/stub/requests":
            seen = [asdict(one) | {"body": one.body.decode()} for one in self.requests]
            return StubReply(200, json.dumps(seen).encode())
        return self.replies(path, body)

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "owned_by": "vllm", "parent": None, "max_model_len": 32768}


class _Connection(asyncio.Protocol):
    def __init__(self, stub: EngineStub) -> None:
        self.stub = stub
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.task: asyncio.Task[None] | None = None
        self.seen: Seen | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self.stub._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stub._connections.discard(self)
        if self.task is not None:
            self.task.cancel()
        if self.seen is not None:
            self.seen.gone = True
            self._end()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        self.url = url
        self.body = []
        if self.stub.keeps:
            self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.stub.keeps:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        stub, path = self.stub, self.url.split(b"?")[0].decode()
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        method = self.parser.get_method().decode()
        if stub.key is not None and self.headers.get("authorization") != f"Bearer {stub.key}":
            self._write(StubReply(401, b'{"error":{"message":"a key is needed","code":401}}'))
            return
        if path not in MODEL_ROUTES:
            self._write(stub.small_reply(method, path, body))
            return
        stub.in_flight += 1
        self.seen = Seen(method, path, self.headers, body)
        if stub.keeps:
            stub.requests.append(self.seen)
            stub.changed.set()
        fault = stub.faults.popleft() if stub.faults else None
        if fault is None:
            reply = stub.replies(path, body)
            if not (reply.chunks and stub.pace_s):
                self._write(reply)
                self._end()
                return
            self._later(self._stream(reply, None))
        else:
            self._spoil(fault, path, body)

    def _later(self, work: Any) -> None:
        self.task = asyncio.get_running_loop().create_task(work)

    def _end(self) -> None:
        self.seen = None
        self.stub.in_flight -= 1
        self.stub.changed.set()

    def _write(self, reply: StubReply) -> None:
        self.transport.write(reply.encoded())

    def _spoil(self, fault: Fault, path: str, body: bytes) -> None:
        if fault.kind == "close":
            self.transport.close()
        elif fault.kind == "garbage":
            self.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        elif fault.kind == "status":
            said = (
                fault.body
                if fault.body is not None
                else {"error": {"message": "scripted", "type": "x", "param": None, "code": fault.status}}
            )
            headers = [(name.encode(), value.encode()) for name, value in fault.headers.items()]
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self._write(StubReply(fault.status, content, headers=headers))
            self._end()
        elif fault.kind in ("die", "slow"):
            self._later(self._stream(self.stub.replies(path, body), fault))
        elif fault.kind != "silence":
            self._write(self.stub.replies(path, body).spoiled(fault.kind))
            self._end()

    async def _stream(self, reply: StubReply, fault: Fault | None) -> None:
        dies = fault is not None and fault.kind == "die"
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.after)
        if not reply.chunks:
            encoded = reply.encoded()
            self.transport.write(encoded[: len(encoded) - len(reply.body) // 2] if dies else encoded)
        else:
            self.transport.write(reply.head())
            for number, chunk in enumerate(reply.chunks):
                if dies and number >= fault.after:  # type: ignore[union-attr]
                    break
                self.transport.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                if self.stub.pace_s:
                    await asyncio.sleep(self.stub.pace_s)
            else:
                self.transport.write(b"0\r\n\r\n")
        if dies:
            self.transport.close()
            return
        self.task = None
        self._end()


async def _serve(options: argparse.Namespace) -> None:
    replies: Replier | None = None
    if options.tokenizer is not None:
        from tests.stand_ins.small_engine import SmallEngine

        replies = SmallEngine(options.tokenizer, model=options.model)
    elif options.prompt_ids or options.sampled:
        replies = CannedReplies(options.model, prompt_ids=options.prompt_ids or 512, sampled=options.sampled or 128)
    stub = EngineStub(replies, models=(options.model,), pace_s=options.pace_ms / 1000)
    stub.keeps = options.keep_requests
    await stub.start(options.port, options.host)
    sys.stdout.write(json.dumps({"url": stub.url, "port": stub.port}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Run until killed; the first line says where, as JSON."""
    parser = argparse.ArgumentParser(description="an engine that answers what it is told to")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--tokenizer", type=Path, help="a folder with tokenizer.json; none: canned replies")
    parser.add_argument("--prompt-ids", type=int, default=0, help="of a canned reply (512)")
    parser.add_argument("--sampled", type=int, default=0, help="of a canned reply (128)")
    parser.add_argument("--pace-ms", type=float, default=0, help="between the chunks of a stream")
    parser.add_argument("--keep-requests", action="store_true")
    options = parser.parse_args()
    try:
        import uvloop

        uvloop.run(_serve(options))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
