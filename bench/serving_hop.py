"""What the gateway's hop costs in front of a declared model: asked through it, and directly, turn by turn.

Without more the engine is a stand-in as slow as Ray Serve LLM is on two cores: 24 requests a second, each of which
takes its share of both. BENCH_UPSTREAM (`http://127.0.0.1:PORT/ROUTE`) and BENCH_UPSTREAM_MODEL name a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from bench.gateway.load import BARRIER, Ask, Report, Script, run_load
from bench.report import Result, Row, median, median_ratio

AT_ONCE = 16
REQUESTS = 32
"""Of each turn."""
ALIAS, DATED = "bench/model", "bench-202601061235-model"
RAY_PER_S = 24.0
CORES = 2
GATE = 0.9
"""Of the requests a second that the engine answers without a gateway."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Place(NamedTuple):
    """Where a chat is asked for, on loopback, and by which name."""

    port: int
    path: str
    model: str
    pid: int | None = None
    """Of the gateway; None: of somebody else."""


def measure(rounds: int = 9) -> Result:
    """`rounds`: turns of each way."""
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(_engine())
        hop = stack.enter_context(_gateway(direct))
        without: list[float] = []
        with_it: list[float] = []
        for place in (direct, hop):
            asyncio.run(_turn(place))  # neither is asked for the first time in what counts
        assert hop.pid is not None
        cpu_before_s = cpu_s(hop.pid)
        for _ in range(rounds):
            for place, rates in ((direct, without), (hop, with_it)):
                rates.append(asyncio.run(_turn(place)))
        cpu_ms = (cpu_s(hop.pid) - cpu_before_s) * 1000 / (rounds * REQUESTS)
    ratio = median_ratio(with_it, without)
    rows = [
        Row(f"the engine itself, {AT_ONCE} at once", median(without), "requests/s"),
        Row("through the gateway, by the alias", median(with_it), "requests/s", ratio),
        Row("the gateway's CPU", cpu_ms, "ms a request"),
    ]
    return Result("serving: the gateway's hop", rows, {"hop_ratio": ratio})


async def _turn(place: Place) -> float:
    """Requests a second. Raises RuntimeError when one of them failed."""
    body = json.dumps(
        {"model": place.model, "messages": [{"role": "user", "content": "What is your name?"}], "max_tokens": 32}
    ).encode()

    def script() -> Script:
        yield Ask(f"{place.path}/v1/models")
        yield BARRIER
        for _ in range(REQUESTS // AT_ONCE):
            yield Ask(f"{place.path}/v1/chat/completions", body)

    report: Report = await run_load(place.port, [script() for _ in range(AT_ONCE)])
    if report.errors or report.requests != REQUESTS:
        raise RuntimeError(f"{report.errors} of {REQUESTS} requests failed: {report.faults}")
    return report.requests / report.wall_s


@contextlib.contextmanager
def _engine() -> Iterator[Place]:
    upstream = os.environ.get("BENCH_UPSTREAM")
    if upstream:
        port, _, route = upstream.removeprefix("http://127.0.0.1:").partition("/")
        yield Place(int(port), f"/{route}".rstrip("/"), os.environ.get("BENCH_UPSTREAM_MODEL", "default"))
        return
    burner = subprocess.Popen([sys.executable, "-m", "bench.serving_hop"], stdout=subprocess.PIPE, text=True)
    try:
        assert burner.stdout is not None
        yield Place(int(burner.stdout.readline()), "", DATED)
    finally:
        burner.kill()
        burner.wait()


@contextlib.contextmanager
def _gateway(engine: Place) -> Iterator[Place]:
    """One that follows a feed of one model."""
    endpoint = {"base_url": f"http://127.0.0.1:{engine.port}{engine.path}", "model": engine.model}
    model = {"model_id": DATED, "alias": ALIAS, "user_id": "bench", "ready": True, "endpoints": [endpoint]}
    with tempfile.TemporaryDirectory() as folder, _feed({"version": 1, "auth": "none", "models": [model]}) as feed:
        words = ["gateway", "--port", "0", "--db", f"sqlite:///{Path(folder) / 'g.db'}", "--serving", feed, "--json"]
        gateway = subprocess.Popen(
            [sys.executable, "-m", "moorage.cli.main", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            assert gateway.stderr is not None
            said = (json.loads(line) for line in gateway.stderr if line.startswith(b"{"))
            port = next(event["port"] for event in said if event.get("event") == "listening")
            threading.Thread(target=gateway.stderr.read, daemon=True).start()
            yield Place(port, "", ALIAS, gateway.pid)
        finally:
            gateway.kill()
            gateway.wait()


@contextlib.contextmanager
def _feed(feed: dict[str, object]) -> Iterator[str]:
    """Its API's address; it never changes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = "version=1" in self.path
            if known:
                time.sleep(9)
            _answer(self, 304 if known else 200, b"" if known else json.dumps(feed).encode())

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def cpu_s(pid: int) -> float:
    """What a process has used of processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _burn(seconds: float) -> int:
    """How many rounds of hashing keep a core busy for so long."""
    rounds = 200_000
    began = time.thread_time()
    hashlib.pbkdf2_hmac("sha256", b"bench", b"bench", rounds)
    return int(rounds * seconds / (time.thread_time() - began))


def _stand_in() -> None:
    """Serve until killed; the first line says on which port. Hashing lets go of the interpreter's lock."""
    work = _burn(CORES / RAY_PER_S)
    reply = json.dumps({"object": "chat.completion", "model": DATED, "choices": [], "usage": None}).encode()
    models = json.dumps({"object": "list", "data": [{"id": DATED}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, 200, models)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            hashlib.pbkdf2_hmac("sha256", b"bench", b"bench", work)
            _answer(self, 200, reply)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def _answer(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    with contextlib.suppress(OSError):
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        if status != 304:
            handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


if __name__ == "__main__":
    _stand_in()
