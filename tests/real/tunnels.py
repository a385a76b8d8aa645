"""Tunnels for tests: real supervisors, over a real sshd in a network namespace, to real HTTP services behind it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from moorage.launch.processes import environment_of, identity_of
from moorage.launch.remote.target import make_target
from moorage.launch.tunnel.tunnels import TunnelSpec, start_tunnel, tunnel_now
from tests.contract.platform_contract import free_port
from tests.real.parts.network import NetHost, net_host
from tests.real.parts.sshd import Sshd, sshd

WAIT_S = 90.0
PORTS = 8000, 8001
CLIENTS = ("paramiko", "openssh")
CANARY = "canary-7f3a9c51d2"
RUN = "MOORAGE_TEST_RUN"

SERVICES = f"""
import hashlib, http.server, threading
go = threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        if self.path == "/events":
            return self.events()
        if self.path == "/go":
            go.set()
        self.answer(str(self.server.server_port).encode())
    def do_POST(self):
        self.answer(hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest().encode())
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\\n\\n")
        go.wait(60)
        self.wfile.write(b"data: second\\n\\n")
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer.request_queue_size = 128
servers = [http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) for port in {PORTS}]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
print("ready", flush=True)
"""
"""Two services that only the host itself can reach; each answers with its port."""


@contextmanager
def serving_host() -> Iterator[tuple[NetHost, Sshd]]:
    """A host with sshd and the two services. Raises PartMissing."""
    end_strangers_of_dead_runs()
    with net_host() as host, sshd(host.folder / "sshd", host) as server:
        process = host.popen([sys.executable, "-c", SERVICES], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield host, server


class Tunnels:
    """Starts tunnels of one test, as a platform does, and ends them after it."""

    def __init__(self, home: Path, server: Sshd) -> None:
        self.home = home
        self.server = server
        dropped = ("SSH_AUTH_SOCK", "SSH_KEY_PATH")
        self.environ = {name: value for name, value in os.environ.items() if name not in dropped}
        self.environ |= {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), RUN: run_mark()}
        self.entries: list[dict[str, Any]] = []

    def spec(self, client: str = "paramiko", **route: Any) -> TunnelSpec:
        remote = make_target("box", client=client).as_dict()
        where = route or {"address": "127.0.0.1", "port": PORTS[0]}
        return TunnelSpec(str(uuid.uuid4()), free_port(), {"kind": "ssh", "remote": remote, **where})

    def start(self, spec: TunnelSpec) -> dict[str, Any]:
        entry = {"job_id": spec.job_id, "host_port": spec.local_port}
        self.entries.append(entry)
        entry["tunnel"] = start_tunnel(spec, self.environ)
        return entry

    def now(self, entry: dict[str, Any]) -> dict[str, Any]:
        found = tunnel_now(entry, self.environ)
        assert found is not None
        return found

    def await_state(self, entry: dict[str, Any], state: str) -> dict[str, Any]:
        """As it was when it was in that state; a process that is only starting is not seen yet."""
        found: dict[str, Any] | None = None

        def is_so() -> bool:
            nonlocal found
            found = tunnel_now(entry, self.environ)
            return found is not None and found["state"] == state

        until(is_so)
        assert found is not None
        return found

    def folder(self) -> Path:
        return self.home / "state/moorage/tunnels"


def get(entry: Mapping[str, Any], path: str = "/") -> str:
    return ask(entry, path, None)


def ask(entry: Mapping[str, Any], path: str, body: bytes | None) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{entry['host_port']}{path}", data=body)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=WAIT_S) as answer:
        return str(answer.read().decode())


def answers(entry: Mapping[str, Any]) -> str:
    """The answer; "" when there is none."""
    try:
        return get(entry)
    except (OSError, http.client.HTTPException):
        return ""


def listens(entry: Mapping[str, Any]) -> bool:
    try:
        socket.create_connection(("127.0.0.1", entry["host_port"]), timeout=5).close()
    except OSError:
        return False
    return True


def write_address(file: Path, port: int) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps({"node": "127.0.0.1", "port": port}))
    part.rename(file)


def family_of(pid: int) -> list[int]:
    """A process and its children."""
    children: list[int] = []
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that ended meanwhile
            children += map(int, place.read_text().split())
    return [pid, *children]


def count_sockets(pid: int) -> int:
    found = 0
    for place in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += "socket:" in str(place.readlink())
    return found


def private_kib(pid: int) -> int:
    """Memory that is the process's alone; 0 when it has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return 0


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s"
        time.sleep(0.02)


def run_mark() -> str:
    identity = identity_of(os.getpid())
    assert identity is not None
    return f"{identity.pid} {identity.started}"


def end_strangers_of_dead_runs() -> None:
    """Supervisors outlive their starter, also a test run that was killed."""
    for place in Path("/proc").glob("[0-9]*"):
        pid, started = (environment_of(int(place.name)).get(RUN, "") + " ").split(" ")[:2]
        runs = identity_of(int(pid)) if pid.isdecimal() else None
        if pid and (runs is None or runs.started != started):
            with suppress(ProcessLookupError):
                os.kill(int(place.name), signal.SIGKILL)
