"""Tunnels carry what they should, heal by themselves, and end when they are told to."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from moorage.errors import PortTaken
from moorage.launch.processes import environment_of, identity_of
from moorage.launch.tunnel.tunnels import end_tunnel, ensure_tunnel, start_tunnel, tunnel_now
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.network import NetHost
from tests.real.parts.sshd import Sshd
from tests.real.tunnels import (
    CANARY,
    CLIENTS,
    PORTS,
    WAIT_S,
    Tunnels,
    answers,
    ask,
    count_sockets,
    family_of,
    get,
    listens,
    private_kib,
    serving_host,
    timed,
    until,
    write_address,
)

pytestmark = [pytest.mark.remote, pytest.mark.slow]


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[NetHost, Sshd]]:
    try:
        with serving_host() as places:
            yield places
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture
def host(places: tuple[NetHost, Sshd]) -> NetHost:
    return places[0]


@pytest.fixture
def server(places: tuple[NetHost, Sshd]) -> Sshd:
    return places[1]


@pytest.fixture
def tunnels(tmp_path: Path, server: Sshd) -> Iterator[Tunnels]:
    home = tmp_path / "home"
    server.write_client(home, "box")
    tunnels = Tunnels(home, server)
    yield tunnels
    for entry in tunnels.entries:
        end_tunnel(entry, tunnels.environ)
        assert tunnel_now({"job_id": entry["job_id"]}, tunnels.environ) is None


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_requests_go_through(tunnels: Tunnels, client: str) -> None:
    entry = tunnels.start(tunnels.spec(client))
    field = entry["tunnel"]
    assert (field["state"], field["local_port"]) == ("connecting", entry["host_port"])
    assert identity_of(field["pid"]) is not None
    up = tunnels.await_state(entry, "up")
    assert up["target"] == f"127.0.0.1:{PORTS[0]}" and "detail" not in up
    assert get(entry) == str(PORTS[0])
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda _: get(entry), range(60))) == [str(PORTS[0])] * 60
    body = os.urandom(8 << 20)
    assert ask(entry, "/", body) == hashlib.sha256(body).hexdigest()

    end_tunnel(entry, tunnels.environ)

    assert not listens(entry)
    assert tunnels.now(entry)["state"] == "broken"
    assert list(tunnels.folder().iterdir()) == []
    end_tunnel(entry, tunnels.environ)


def test_a_stream_of_events_is_not_held_back(tunnels: Tunnels, client: str) -> None:
    entry = tunnels.start(tunnels.spec(client))
    tunnels.await_state(entry, "up")
    way = http.client.HTTPConnection("127.0.0.1", entry["host_port"], timeout=WAIT_S)
    way.request("GET", "/events")
    events = way.getresponse()
    assert events.readline() == b"data: first\n"
    get(entry, "/go")
    assert events.read() == b"\ndata: second\n\n"


def test_a_client_that_has_sent_all_still_reads(tunnels: Tunnels, client: str) -> None:
    entry = tunnels.start(tunnels.spec(client))
    tunnels.await_state(entry, "up")
    with socket.create_connection(("127.0.0.1", entry["host_port"]), timeout=WAIT_S) as way:
        way.sendall(b"GET / HTTP/1.0\r\n\r\n")
        way.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: way.recv(1000), b"")).endswith(str(PORTS[0]).encode())


def test_a_cut_link_heals_by_itself(tunnels: Tunnels, host: NetHost, client: str) -> None:
    entry = tunnels.start(tunnels.spec(client))
    since = tunnels.await_state(entry, "up")["since"]
    host.cut()
    try:
        broken = tunnels.await_state(entry, "broken")
        assert "box" in broken["detail"]
        assert broken["since"] > since
        assert not answers(entry)
    finally:
        host.restore()
    assert tunnels.await_state(entry, "up")["pid"] == broken["pid"]
    assert get(entry) == str(PORTS[0])


def test_a_server_that_restarts(tunnels: Tunnels, server: Sshd, client: str) -> None:
    entry = tunnels.start(tunnels.spec(client))
    tunnels.await_state(entry, "up")
    server.stop()
    try:
        assert "box" in tunnels.await_state(entry, "broken")["detail"]
        assert not answers(entry)
    finally:
        server.start()
    tunnels.await_state(entry, "up")
    assert get(entry) == str(PORTS[0])


def test_a_service_that_moves(tunnels: Tunnels, server: Sshd, client: str) -> None:
    file = server.home / f"address-{client}.json"
    file.unlink(missing_ok=True)
    entry = tunnels.start(tunnels.spec(client, address_file=str(file)))
    until(lambda: "has not said yet" in tunnels.now(entry).get("detail", ""))
    assert tunnels.now(entry)["state"] == "connecting"
    assert not answers(entry)

    write_address(file, PORTS[0])
    tunnels.await_state(entry, "up")
    assert get(entry) == str(PORTS[0])

    file.write_text("{half of it")
    write_address(file, PORTS[1])
    until(lambda: answers(entry) == str(PORTS[1]))
    until(lambda: tunnels.now(entry).get("target") == f"127.0.0.1:{PORTS[1]}")

    write_address(file, 9)  # where nothing listens, until it moves on
    until(lambda: not answers(entry))
    assert tunnels.now(entry)["state"] == "up"
    write_address(file, PORTS[0])
    until(lambda: answers(entry) == str(PORTS[0]))


def test_a_killed_supervisor_is_seen_and_replaced(tunnels: Tunnels, client: str) -> None:
    spec = tunnels.spec(client)
    entry = tunnels.start(spec)
    tunnels.await_state(entry, "up")
    assert ensure_tunnel(spec, entry, tunnels.environ)["pid"] == entry["tunnel"]["pid"]
    os.kill(entry["tunnel"]["pid"], signal.SIGKILL)
    until(lambda: identity_of(entry["tunnel"]["pid"]) is None)
    assert tunnels.now(entry) == entry["tunnel"] | {"state": "broken", "detail": "its process has ended"}

    with ThreadPoolExecutor(4) as pool:
        fields = list(pool.map(lambda _: ensure_tunnel(spec, entry, tunnels.environ), range(4)))

    assert len({field["pid"] for field in fields}) == 1
    entry["tunnel"] = fields[0]
    tunnels.await_state(entry, "up")
    assert get(entry) == str(PORTS[0])


def test_a_tunnel_that_nobody_noted_is_found(tunnels: Tunnels) -> None:
    entry = tunnels.start(tunnels.spec())
    lost = {"job_id": entry["job_id"], "host_port": entry["host_port"]}
    found = tunnels.await_state(lost, "up")
    assert (found["pid"], found["local_port"]) == (entry["tunnel"]["pid"], entry["host_port"])
    end_tunnel(lost, tunnels.environ)
    assert not listens(entry)
    assert tunnel_now(lost, tunnels.environ) is None


def test_a_pid_that_is_someone_elses_now(tunnels: Tunnels) -> None:
    """Neither a reused pid nor the name of a living stranger is touched."""
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sleep", "600"], start_new_session=True) as stranger:
        identity = identity_of(stranger.pid)
        assert identity is not None
        for field in (identity.as_field(), identity.as_field() | {"started": "boot:1"}):
            entry = {"job_id": str(uuid.uuid4()), "tunnel": {**field, "local_port": 1, "state": "up"}}
            assert tunnels.now(entry)["state"] == "broken"
            end_tunnel(entry, tunnels.environ)
            assert stranger.poll() is None
        stranger.kill()


def test_a_port_that_is_taken(tunnels: Tunnels) -> None:
    spec = tunnels.spec()
    with socket.create_server(("127.0.0.1", spec.local_port)):
        with pytest.raises(PortTaken, match=f"port {spec.local_port} of this machine is taken"):
            start_tunnel(spec, tunnels.environ)
        entry = {"job_id": spec.job_id, "host_port": spec.local_port}
        assert tunnel_now(entry, tunnels.environ) is None
        assert ensure_tunnel(spec, entry, tunnels.environ)["state"] == "broken"
    assert list(tunnels.folder().iterdir()) == []


def test_an_end_while_it_connects(tunnels: Tunnels, host: NetHost, client: str) -> None:
    host.cut()
    try:
        entry = tunnels.start(tunnels.spec(client))
        pid = entry["tunnel"]["pid"]
        # It has begun: an ssh of its own, or a socket besides the one it listens on.
        until(lambda: len(family_of(pid)) > 1 if client == "openssh" else count_sockets(pid) > 1)
        members = family_of(pid)
        begun = time.monotonic()
        end_tunnel(entry, tunnels.environ)
        until(lambda: not any(identity_of(member) for member in members))
        assert not list(Path("/tmp").glob(f"moor-ssh-{pid}-*"))
        assert time.monotonic() - begun < 10
    finally:
        host.restore()


def test_sigterm_ends_it_with_open_connections(tunnels: Tunnels, client: str) -> None:
    entry = tunnels.start(tunnels.spec(client))
    tunnels.await_state(entry, "up")
    members = family_of(entry["tunnel"]["pid"])
    with socket.create_connection(("127.0.0.1", entry["host_port"]), timeout=WAIT_S) as way:
        way.sendall(b"GET / HTTP/1.0\r\n")
        os.kill(entry["tunnel"]["pid"], signal.SIGTERM)
        with suppress(ConnectionError):
            assert way.recv(100) == b""
    until(lambda: not any(identity_of(pid) for pid in members))


def test_a_doubtful_host_key_is_told(tunnels: Tunnels, server: Sshd, client: str) -> None:
    (tunnels.home / ".ssh/known_hosts").write_text("")
    entry = tunnels.start(tunnels.spec(client))
    broken = tunnels.await_state(entry, "broken")
    assert "is not known" in broken["detail"] and server.fingerprint in broken["detail"]
    log = (tunnels.folder() / f"{entry['job_id']}.log").read_text()
    assert server.fingerprint in log and "Traceback" not in log
    (tunnels.home / ".ssh/known_hosts").write_text(server.known_hosts_line())
    tunnels.await_state(entry, "up")


def test_it_goes_on_without_its_files(tunnels: Tunnels) -> None:
    entry = tunnels.start(tunnels.spec())
    tunnels.await_state(entry, "up")
    for file in tunnels.folder().iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        file.unlink()
    tunnels.folder().rmdir()
    assert tunnels.now(entry)["state"] == "connecting"
    assert get(entry) == str(PORTS[0])
    tunnels.await_state(entry, "up")


def test_no_secret_reaches_it(tunnels: Tunnels, client: str) -> None:
    secrets = {"HF_TOKEN": CANARY, "NGC_KEY": CANARY, "MY_OWN_API_KEY": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY}
    tunnels.environ |= secrets
    entry = tunnels.start(tunnels.spec(client))
    tunnels.await_state(entry, "up")
    pid = entry["tunnel"]["pid"]
    assert environment_of(pid)["MOORAGE_TUNNEL"] == entry["job_id"]
    for member in family_of(pid):
        for name in ("environ", "cmdline"):
            if identity_of(member) is None:  # one of ssh's that was soon done
                continue
            assert CANARY.encode() not in Path(f"/proc/{member}/{name}").read_bytes()
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_several_at_once_do_not_touch_each_other(tunnels: Tunnels) -> None:
    entries = [tunnels.start(tunnels.spec(address="127.0.0.1", port=PORTS[index % 2])) for index in range(3)]
    for entry in entries:
        tunnels.await_state(entry, "up")
    assert [get(entry) for entry in entries] == [str(PORTS[index % 2]) for index in range(3)]
    end_tunnel(entries[1], tunnels.environ)
    assert not listens(entries[1])
    assert get(entries[0]) == get(entries[2]) == str(PORTS[0])


def test_it_is_light(tunnels: Tunnels, client: str) -> None:
    """Memory of its own, and what it adds to a request; generous, since other work may run beside it."""
    entry = tunnels.start(tunnels.spec(client))
    tunnels.await_state(entry, "up")
    get(entry)
    own_kib = sum(private_kib(pid) for pid in family_of(entry["tunnel"]["pid"]))
    assert 1_000 < own_kib < 60_000
    times = sorted(timed(lambda: get(entry)) for _ in range(50))
    assert times[5] < 0.05
