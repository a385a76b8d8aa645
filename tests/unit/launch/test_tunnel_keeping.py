"""How a tunnel is kept: pauses, states, addresses, bytes."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError, TryAgainError, UsageError
from moorage.launch.remote.openssh_client import SocketStream
from moorage.launch.remote.target import make_target
from moorage.launch.tunnel import kubernetes_route
from moorage.launch.tunnel.keeper import Keeper
from moorage.launch.tunnel.pauses import FIRST_S, LONGEST_REFUSED_S, LONGEST_S, pause_s
from moorage.launch.tunnel.pump import pump
from moorage.launch.tunnel.route import Stream, open_route
from moorage.launch.tunnel.ssh_route import parse_place, read_place
from moorage.launch.tunnel.state_file import read_state, write_state
from moorage.launch.tunnel.supervisor import StateTeller
from moorage.launch.tunnel.tunnels import inherited

WAIT_S = 30.0


@given(st.integers(1, 10_000), st.floats(0, 1), st.booleans())
def test_pauses_grow_to_a_limit(failures: int, jitter: float, refused: bool) -> None:
    longest = LONGEST_REFUSED_S if refused else LONGEST_S
    pause = pause_s(failures, jitter, refused=refused)
    assert FIRST_S / 2 <= pause <= longest
    assert pause <= pause_s(failures + 1, jitter, refused=refused)


def test_first_pauses() -> None:
    assert [pause_s(failures, 0) for failures in range(1, 9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert pause_s(20, 0, refused=True) == 60


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"node": "n1", "port": 8081}', ("n1", 8081)),
        (b'{"node": "n1", "port": 8081, "more": 1}', ("n1", 8081)),
        (None, None),
        (b"", None),
        (b"{half", None),
        (b"[1]", None),
        (b'"text"', None),
        (b"\xff", None),
        (b'{"node": "", "port": 1}', None),
        (b'{"node": 7, "port": 1}', None),
        (b'{"node": "n", "port": 0}', None),
        (b'{"node": "n", "port": 65536}', None),
        (b'{"node": "n", "port": true}', None),
        (b'{"node": "n", "port": "1"}', None),
    ],
)
def test_address_files(data: bytes | None, expected: tuple[str, int] | None) -> None:
    assert read_place(data) == expected


def test_places() -> None:
    assert parse_place("127.0.0.1", 80) == ("127.0.0.1", 80)
    assert parse_place(None, 80) is None


@pytest.mark.parametrize(
    "route",
    [
        {},
        {"kind": "carrier pigeon"},
        {"kind": "ssh"},
        {"kind": "ssh", "remote": make_target("box").as_dict()},
        {"kind": "ssh", "remote": {"hosts": ["-x"]}, "address": "a", "port": 1},
    ],
)
def test_routes_that_lead_nowhere(route: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_route(route, {})


def test_a_state_is_written_whole_and_read_defensively(tmp_path: Path) -> None:
    path = tmp_path / "deep/state.json"
    write_state(str(path), {"state": "up", "detail": None, "since": "now", "target": "n:1", "more": 1})
    assert read_state(str(path)) == {"state": "up", "since": "now", "target": "n:1"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["state.json"]
    for text in ("", "{half", "[]", '{"state": "sideways"}', "null"):
        path.write_text(text)
        assert read_state(str(path)) == {"state": "connecting"}
    assert read_state(str(tmp_path / "none")) == {"state": "connecting"}


def test_the_teller_writes_what_is_new(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state.json"
    tell = StateTeller(str(path))
    tell("broken", "why", None)
    first = json.loads(path.read_text())
    tell("broken", "why else", None)
    second = json.loads(path.read_text())
    assert second == first | {"detail": "why else"}  # broken since the same moment
    tell("up", None, "n:1")
    third = json.loads(path.read_text())
    assert third["since"] >= first["since"] and (third["state"], third["target"]) == ("up", "n:1")
    path.unlink()
    tell("up", None, "n:1")
    assert json.loads(path.read_text()) == third
    assert [line.split(" ", 1)[1] for line in capfd.readouterr().err.splitlines()] == [
        "broken why",
        "broken why else",
        "up n:1",
    ]


def test_the_teller_goes_on_where_nothing_can_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    StateTeller("/proc/nowhere/state.json")("up", None, None)
    assert "up" in capfd.readouterr().err


def test_secrets_are_not_inherited() -> None:
    environ = dict.fromkeys(
        ["PATH", "SSH_AUTH_SOCK", "SSH_KEY_PATH", "KUBECONFIG", "GOOGLE_APPLICATION_CREDENTIALS", "MOORAGE_STATE_FILE"],
        "x",
    )
    secret = dict.fromkeys(["NGC_KEY", "HF_TOKEN", "My_Password", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"], "x")
    assert inherited(environ | secret | {"MOORAGE_LABEL": "{}"}, ["NGC_KEY"]) == environ


class ScriptedRoute:
    """A route whose answers a test decides."""

    target = "node:1"

    def __init__(self) -> None:
        self.connects: list[MoorageError | Exception | None] = []
        self.checks: list[MoorageError | None] = []
        self.opens: list[Stream | MoorageError] = []
        self.closed = 0
        self.connected = 0

    def connect(self) -> None:
        self.connected += 1
        fault = self.connects.pop(0) if self.connects else None
        if fault is not None:
            raise fault

    def check(self) -> None:
        fault = self.checks.pop(0) if self.checks else None
        if fault is not None:
            raise fault

    def open(self) -> Stream:
        found = self.opens.pop(0)
        if isinstance(found, MoorageError):
            raise found
        return found

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def route() -> ScriptedRoute:
    return ScriptedRoute()


@pytest.fixture
def told() -> list[tuple[str, str | None, str | None]]:
    return []


@pytest.fixture
def keeper(route: ScriptedRoute, told: list[tuple[str, str | None, str | None]]) -> Iterator[Keeper]:
    keeper = Keeper(route, tell=lambda *words: told.append(words), jitter=lambda: 1.0, check_s=0.02, look_s=0.01)
    yield keeper
    keeper.end()


def run(keeper: Keeper) -> threading.Thread:
    thread = threading.Thread(target=keeper.run, daemon=True)
    thread.start()
    return thread


def test_a_way_that_breaks_is_made_again(
    route: ScriptedRoute, keeper: Keeper, told: list[tuple[str, str | None, str | None]]
) -> None:
    route.connects = [PlatformUnreachable("dead"), ValueError("odd")]
    route.checks = [None, PlatformUnreachable("silent")]
    thread = run(keeper)
    until(lambda: ("broken", "silent", "node:1") in told and told[-1][0] == "up")
    states = [words[:2] for words in told]
    assert states[:3] == [("broken", "dead"), ("broken", "ValueError: odd"), ("up", None)]
    keeper.end()
    thread.join(WAIT_S)
    assert not thread.is_alive() and route.closed >= 4


def test_a_login_is_kept_while_only_the_address_is_missing(
    route: ScriptedRoute, keeper: Keeper, told: list[tuple[str, str | None, str | None]]
) -> None:
    unknown = TryAgainError("queued", code="address_unknown")
    route.connects, route.checks = [unknown], [unknown, unknown]
    run(keeper)
    until(lambda: told and told[-1][0] == "up")
    assert [words[:2] for words in told[:4]] == [("connecting", "queued")] * 3 + [("up", None)]
    assert (route.closed, route.connected) == (0, 1)


def test_a_login_that_is_lost_while_the_address_is_missing_is_made_again(
    route: ScriptedRoute, keeper: Keeper, told: list[tuple[str, str | None, str | None]]
) -> None:
    route.connects = [TryAgainError("queued", code="address_unknown")]
    route.checks = [PlatformUnreachable("silent")]
    run(keeper)
    until(lambda: told and told[-1][0] == "up")
    assert [words[0] for words in told[:3]] == ["connecting", "broken", "up"]
    assert (route.closed, route.connected) == (1, 2)


def test_an_end_is_not_kept_waiting_for_an_address(route: ScriptedRoute) -> None:
    told: list[str] = []
    keeper = Keeper(route, tell=lambda *words: told.append(words[0]), jitter=lambda: 1.0, look_s=1000)
    route.connects = [TryAgainError("queued", code="address_unknown")]
    thread = run(keeper)
    until(lambda: told)
    keeper.end()
    thread.join(WAIT_S)
    assert (thread.is_alive(), told) == (False, ["connecting"])


def test_connections_are_led_only_while_it_is_up(
    route: ScriptedRoute, keeper: Keeper, told: list[tuple[str, str | None, str | None]]
) -> None:
    ours, theirs = socket.socketpair()
    stream = SocketStream(theirs, theirs)
    route.opens = [stream, TryAgainError("nothing listens", code="port_closed")]
    assert keeper.open() is None
    run(keeper)
    until(lambda: told)
    assert keeper.open() is stream
    assert keeper.open() is None  # that the far end refuses does not break the way
    assert told[-1][0] == "up"
    route.checks = [PreflightError("no more", code="login_refused")] * 100
    route.connects = [PreflightError("no more", code="login_refused")] * 100
    until(lambda: told[-1][0] == "broken")
    assert keeper.open() is None
    ours.close()
    theirs.close()


class Pods:
    """A cluster with one pod, whose connections are pairs of sockets here."""

    def __init__(self) -> None:
        self.far: list[socket.socket] = []

    def items(self, namespace: str, kind: str, **query: str) -> list[dict[str, Any]]:
        status = {"containerStatuses": [{"state": {"running": {}}}]}
        return [{"metadata": {"name": "pod", "creationTimestamp": "now"}, "status": status}]

    def forward(self, namespace: str, pod: str, port: int) -> Any:
        near, far = socket.socketpair()
        self.far.append(far)
        return type("Forward", (), {"socket": lambda self, port: near})()

    def close(self) -> None:
        """Nothing to end."""


def test_connections_to_a_pod_are_as_many_as_can_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = Pods()
    monkeypatch.setattr(kubernetes_route, "open_cluster", lambda *_words, **_options: pods)
    monkeypatch.setattr(kubernetes_route, "MOST_AT_ONCE", 3)
    route = kubernetes_route.KubernetesRoute({"namespace": "n", "selector": "a=b", "port": 8080}, {})
    route.connect()
    streams = [route.open() for _ in range(3)]
    with pytest.raises(TryAgainError, match="3 connections"):
        route.open()
    streams[0].close()
    assert route.target == "pod:8080"
    streams[0] = route.open()
    route.close()
    assert [far.recv(1) for far in pods.far] == [b""] * 4
    assert route.target is None


def test_bytes_go_both_ways_and_ends_one_by_one() -> None:
    near, local = socket.socketpair()
    far, remote = socket.socketpair()
    came: list[bool] = []
    pumping = threading.Thread(target=lambda: came.append(pump(local, SocketStream(remote, remote))))
    pumping.start()
    near.sendall(b"question")
    near.shutdown(socket.SHUT_WR)
    assert read(far) == b"question"
    far.sendall(b"answer")
    far.close()
    assert read(near) == b"answer"
    pumping.join(WAIT_S)
    assert came == [True]
    near.close()


@pytest.mark.parametrize("side", ["near", "far"])
def test_a_broken_side_ends_the_other(side: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        local, _ = server.accept()
        far = socket.create_connection(server.getsockname())
        remote, _ = server.accept()
    came: list[bool] = []
    pumping = threading.Thread(target=lambda: came.append(pump(local, SocketStream(remote, remote))))
    pumping.start()
    broken, other = (near, far) if side == "near" else (far, near)
    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closed by a reset
    broken.close()
    assert read(other) == b""
    other.close()
    pumping.join(WAIT_S)
    assert came == [False]


def read(way: socket.socket) -> bytes:
    way.settimeout(WAIT_S)
    found = b""
    try:
        while data := way.recv(100):
            found += data
    except ConnectionError:
        pass
    return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s"
        time.sleep(0.005)


def test_imports_stay_light() -> None:
    """What a listing imports is kept from typing, pathlib and subprocess."""
    import subprocess
    import sys

    program = "import sys, moorage.launch.tunnel.tunnels; print(*sys.modules)"
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert not {"typing", "pathlib", "subprocess", "socket", "paramiko"} & set(done.stdout.split())
