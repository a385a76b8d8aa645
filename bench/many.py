"""Many at once: a thousand streams that must come whole and in order, ten thousand live sessions in little memory."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

import uvloop

from bench.gateway.load import BARRIER, Ask, Script, run_load
from bench.gateway.scripts import CHAT, make_bodies, make_session
from bench.gateway.speech import load_speech
from bench.gateway.stacks.contract import Running
from bench.gateway.stacks.environment import cache_folder
from bench.gateway.standing import ROOT, standing
from bench.report import Result, Row

STREAMS = 1_000
SESSIONS = 10_000
CALLS_A_SESSION = 4
AT_ONCE = 64
MEMORY_MB = 120
"""What ten thousand sessions of four calls may take above an idle gateway with its tokenizer."""


def measure(rounds: int = 1) -> Result:
    """`rounds`: how often the streams are opened; the sessions are made once."""
    _raise_file_limit()
    model = ROOT / "models" / "nano"
    folder = cache_folder() / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    speech = load_speech(model)
    bodies = make_bodies(speech)
    with tempfile.TemporaryDirectory(dir=folder) as run, standing(Path(run), model, []) as stand:
        passing, exact = stand.stacks["moorage"], stand.stacks["moorage-exact"]
        spoiled = sum(_spoiled_streams(passing, bodies.stream, bodies.session_stream) for _ in range(rounds))
        above_mb = _memory_of_sessions(exact, bodies.talk[:CALLS_A_SESSION])
    rows = [
        Row("streams", 2.0 * STREAMS * rounds, "opened"),
        Row("streams that were not whole and in order", float(spoiled), ""),
        Row(f"{SESSIONS} sessions of {CALLS_A_SESSION} calls, resident memory above idle", above_mb, "MB"),
    ]
    return Result("many at once", rows, {"spoiled_streams": float(spoiled), "sessions_mb": above_mb})


def _spoiled_streams(running: Running, open_body: bytes, session_body: bytes) -> int:
    """Of STREAMS on the open route and as many in sessions, those that say something else than one alone does."""
    return _spoiled(running, [CHAT] * STREAMS, open_body) + _spoiled(running, _sessions(running, STREAMS), session_body)


def _spoiled(running: Running, paths: list[str], body: bytes) -> int:
    said: list[str] = []

    def script(path: str) -> Script:
        yield Ask("/v1/models")
        yield BARRIER
        reply = yield Ask(path, body)
        assert reply is not None
        said.append(_content(reply.body) if reply.status == 200 else f"status {reply.status}")

    uvloop.run(run_load(running.port, [script(paths[0])]))
    uvloop.run(run_load(running.port, [script(path) for path in paths]))
    alone, *many = said
    assert alone
    return len(paths) - len(many) + sum(one != alone for one in many)


def _content(events: bytes) -> str:
    """The text of a chat stream that ended as one does; empty: it did not."""
    pieces: list[str] = []
    lines = [line.removeprefix(b"data: ") for line in events.split(b"\n\n") if line]
    for line in lines[:-1]:
        pieces += [choice["delta"].get("content") or "" for choice in json.loads(line)["choices"]]
    return "".join(pieces) if lines and lines[-1] == b"[DONE]" else ""


def _sessions(running: Running, count: int) -> list[str]:
    paths: list[str] = []

    def script() -> Script:
        paths.append(f"/{(yield from make_session(b'{}'))}{CHAT}")

    for _ in range(-(-count // AT_ONCE)):
        uvloop.run(run_load(running.port, [script() for _ in range(AT_ONCE)], settle_s=0))
    return paths[:count]


def _memory_of_sessions(running: Running, turns: list[tuple[bytes, str]]) -> float:
    """MB."""

    def script(sessions: int) -> Script:
        for _ in range(sessions):
            path = f"/{(yield from make_session(b'{}'))}{CHAT}"
            for body, _said in turns:
                yield Ask(path, body)

    uvloop.run(run_load(running.port, [script(1)]))
    before_mb = _resident_mb(running)
    each, more = divmod(SESSIONS, AT_ONCE)
    scripts = [script(each + (place < more)) for place in range(AT_ONCE)]
    report = uvloop.run(run_load(running.port, scripts, settle_s=0))
    assert not report.errors, report.faults
    return _resident_mb(running) - before_mb


def _resident_mb(running: Running) -> float:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4 * STREAMS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8 * STREAMS), hard))
    print(f"{STREAMS} streams, then {SESSIONS} sessions", file=sys.stderr, flush=True)
