"""What stands between the load and the stub."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["PeerMissing", "Place", "Running", "StartStack", "free_port", "run_stack"]

STOP_WITHIN_S = 10.0
LOOK_EVERY_S = 0.05


class PeerMissing(RuntimeError):
    """This stack cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stack runs."""

    folder: Path
    """Its own: logs, configuration, store."""
    upstream_port: int
    cpus: set[int]
    model: Path
    """Folder with the tokenizer of the model that the stub serves."""

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.upstream_port}"


@dataclass(slots=True)
class Running:
    """A stack that answers."""

    process: subprocess.Popen[bytes]
    port: int
    stream_port: int
    """The same as `port` unless streams are configured apart."""
    store: Path | None = None
    """Its SQLite file; None where nothing is stored."""
    version: str = ""
    notes: list[str] = field(default_factory=list)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


StartStack = Callable[[Place], Running]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def run_stack(
    argv: list[str], place: Place, port: int, *, ready: str, within_s: float, env: Mapping[str, str] | None = None
) -> Running:
    """Start a program on the stack's cores and wait until `ready` (a path) is answered with 200."""
    program = argv[0] if "/" in argv[0] else shutil.which(argv[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise PeerMissing(f"{argv[0]} is not installed")
    place.folder.mkdir(parents=True, exist_ok=True)
    log = place.folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=place.folder,
            env={**os.environ, **(env or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, place.cpus),
        )
    running = Running(process, port, port)
    try:
        _wait(f"http://127.0.0.1:{port}{ready}", process, within_s)
    except PeerMissing as fault:
        running.stop()
        last = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise PeerMissing(f"{fault}: {' | '.join(last)}") from None
    return running


def _wait(url: str, process: subprocess.Popen[bytes], within_s: float) -> None:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise PeerMissing(f"ended with {process.returncode} before it answered")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(LOOK_EVERY_S)
    raise PeerMissing(f"did not answer {url} within {within_s:.0f} s")
