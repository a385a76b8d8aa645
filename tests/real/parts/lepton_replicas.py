"""Replicas of the Lepton stand-in: processes with their logs, and the door in front of them that wants a key."""

from __future__ import annotations

import http.client
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOK_S = 0.02
UPSTREAM_S = 60.0
UNSHARE = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--pid", "--fork")


class Spawner:
    """One thread that starts all processes: they end with the thread that started them, and requests' threads end."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[tuple[Callable[[], Any], queue.Queue[Any]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], Any]) -> Any:
        answers: queue.Queue[Any] = queue.Queue()
        self._jobs.put((job, answers))
        return answers.get()

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (wanted := self._jobs.get()) is not None:
            job, answers = wanted
            answers.put(job())


class Replica:
    """One container: a process of its own process namespace, so that nothing of it outlives it."""

    def __init__(
        self, name: str, command: list[str], environ: dict[str, str], log: Path, spawner: Spawner, restart_s: float
    ) -> None:
        self.name, self._command, self._log, self._spawner = name, command, log, spawner
        self.port = free_port()
        own = {"MOORAGE_HOST": "127.0.0.1", "MOORAGE_PORT": str(self.port)}
        self._environ = environ | own
        self._restart_s = restart_s
        self._ends: list[dict[str, Any]] = []
        self._stopping = False
        self._process = self._spawn()
        threading.Thread(target=self._watch, daemon=True).start()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def ends(self) -> list[dict[str, Any]]:
        """Each end of the container, as Lepton tells it."""
        code = self._process.poll()
        known = list(self._ends)
        if code is not None and len(known) < self._started:
            known.append(self._end(code))
        return known

    def end(self) -> None:
        """Stop it for good, without the grace: a shell as first process of a container ignores SIGTERM anyway."""
        self._stopping = True
        self.kill()

    def kill(self) -> None:
        """End it at once, as a node that fails does."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def output(self) -> Iterator[bytes]:
        """What it wrote since it was started last, and what it writes, until it ends."""
        process, offset = self._process, 0
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            while True:
                over = process.poll() is not None
                piece = file.read(1 << 16)
                offset += len(piece)
                if piece:
                    yield piece
                elif over:
                    return
                else:
                    time.sleep(LOOK_S)

    _started = 0
    _log_start = 0

    def _spawn(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = self._spawner.run(self._popen)
        self._started += 1
        return process

    def _popen(self) -> subprocess.Popen[bytes]:
        alone = ["setpriv", "--pdeathsig", "KILL", *UNSHARE, "--kill-child=KILL"]
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                [*alone, *self._command],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def _watch(self) -> None:
        """Start it again some time after it ended."""
        while True:
            code = self._process.wait()
            if self._stopping:
                return
            self._ends.append(self._end(code))
            deadline = time.monotonic() + self._restart_s
            while time.monotonic() < deadline:
                if self._stopping:
                    return
                time.sleep(min(0.1, self._restart_s))
            self._process = self._spawn()

    @staticmethod
    def _end(code: int) -> dict[str, Any]:
        now = int(time.time())
        code = 128 - code if code < 0 else code
        return {"started_at": now, "finished_at": now, "exit_code": code, "reason": "Error", "message": ""}


class Door:
    """The external endpoint: passes requests with the key on to a replica, and refuses others."""

    def __init__(self, keys: list[str], *, open_door: bool) -> None:
        self.keys, self.open_door = keys, open_door
        self.replicas: list[Replica] = []
        self.refused = 0
        self._http = _DoorHttp(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=[LOOK_S], daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def port(self) -> int | None:
        """Of a replica that runs; None when none does."""
        running = [replica.port for replica in self.replicas if replica.is_running()]
        return running[time.monotonic_ns() % len(running)] if running else None


class _DoorHttp(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, door: Door) -> None:
        super().__init__(("127.0.0.1", 0), _DoorHandler)
        self.door = door


class _DoorHandler(BaseHTTPRequestHandler):
    server: _DoorHttp
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        door = self.server.door
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not door.open_door and self.headers.get("Authorization") not in [f"Bearer {key}" for key in door.keys]:
            door.refused += 1
            self._refuse(401, b"Unauthorized")
            return
        port = door.port()
        try:
            self._pass_on(port, body)
        except OSError:
            self._refuse(503, b"no healthy upstream")

    do_GET = do_POST = do_HEAD = _handle

    def log_message(self, format: str, *args: object) -> None:
        return

    def _pass_on(self, port: int | None, body: bytes) -> None:
        if port is None:
            raise ConnectionRefusedError
        upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=UPSTREAM_S)
        try:
            unwanted = {"host", "authorization", "connection"}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in unwanted}
            upstream.request(self.command, self.path, body or None, headers)
            reply = upstream.getresponse()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            while piece := reply.read1(1 << 16):
                self.wfile.write(piece)
        finally:
            upstream.close()

    def _refuse(self, status: int, body: bytes) -> None:
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port: int = holder.getsockname()[1]
        return port
