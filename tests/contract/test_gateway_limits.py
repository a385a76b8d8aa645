"""Clients that take too much or too long: of connections, headers, time, pipelining, replies that nobody reads."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.gateway_calls import chat, init, steps_of
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.contract.raw_sockets import BIG, BigReplies, connect, read_all, status_of
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.engine_stub import Fault

BODY = json.dumps(chat()).encode()
PATIENCE_S = 1.0


def metric(gateway: GatewayProcess, name: str) -> float:
    """The value of one series."""
    lines = gateway.get("/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def memory_kib(gateway: GatewayProcess) -> int:
    """Resident now."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway without patience."""
    flags = ("--client-timeout", str(PATIENCE_S), "--idle-timeout", "2")
    with running_gateway(tmp_path_factory.mktemp("hasty"), *flags) as running:
        yield running


# Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"P",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n",
        b"\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nx: y",
    ],
    ids=repr,
)
def test_a_request_that_does_not_come_is_given_up(hasty: GatewayProcess, said: bytes) -> None:
    asked = len(hasty.stub.requests)
    with connect(hasty) as connection:
        connection.sendall(said)
        answer = read_all(connection)
    assert status_of(answer) == 408, answer
    assert b'"request_timeout"' in answer
    assert b"connection: close" in answer
    assert len(hasty.stub.requests) == asked


@pytest.mark.parametrize(
    "head", [b"GET /", b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n"]
)
def test_a_byte_now_and_then_does_not_help(hasty: GatewayProcess, head: bytes) -> None:
    with connect(hasty) as connection:
        connection.settimeout(0.1)
        connection.sendall(head)
        began, answer = time.monotonic(), b""
        while not answer and time.monotonic() - began < 20:
            with contextlib.suppress(OSError):
                connection.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
    assert status_of(answer) == 408, answer


def test_an_idle_connection_is_closed_without_a_word(hasty: GatewayProcess) -> None:
    with connect(hasty) as never, connect(hasty) as once:
        once.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status_of(once.recv(65536)) == 200
        assert (read_all(once), read_all(never)) == (b"", b"")


def test_a_slow_engine_is_no_slow_client(hasty: GatewayProcess) -> None:
    hasty.stub.spoil(Fault("slow", after=2.5))
    assert hasty.post(f"{init(hasty)['path']}/chat/completions", chat()).status_code == 200


def test_a_reader_that_stops_reading_a_stream_is_left(tmp_path: Path) -> None:
    """The engine is made to wait, then the client is taken for gone: the call is kept, and is no more in flight."""
    flags = ("--client-timeout", str(PATIENCE_S), "--upstream-timeout", "60")
    with running_gateway(tmp_path, *flags, replies=CannedReplies("stub", prompt_ids=12, sampled=30_000)) as gateway:
        made = init(gateway)
        with contextlib.closing(socket.socket()) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", gateway.port))
            body = json.dumps(chat(stream=True)).encode()
            head = f"POST {made['path']}/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            stuck.sendall(head.encode() + body)
            wait_until(lambda: gateway.get("/pause").json()["in_flight"] == 1)
            wait_until(lambda: gateway.get("/pause").json()["in_flight"] == 0)
        assert metric(gateway, 'moorage_connections_ended_total{late="reader"}') == 1
        assert all(not one["delivered"] for one in steps_of(gateway, made["trajectory_uid"]))


# Memory ----------------------------------------------------------------------------------------------------------


def test_a_big_reply_that_is_read_slowly_is_there_once(tmp_path: Path) -> None:
    with running_gateway(tmp_path, replies=BigReplies()) as gateway:
        assert len(gateway.post("/v1/completions", {"prompt": "a"}).content) > BIG
        before = memory_kib(gateway)
        with connect(gateway, small=True) as slow:
            slow.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
            wait_until(lambda: gateway.get("/pause").json()["in_flight"] == 0)
            first = slow.recv(1000)
            assert status_of(first) == 200
            assert memory_kib(gateway) - before < 2.2 * BIG / 1024
            got = len(first)
            while part := slow.recv(1 << 20):
                got += len(part)
                if got > BIG:
                    break
        wait_until(lambda: memory_kib(gateway) - before < 0.5 * BIG / 1024)


def test_a_stream_that_is_not_read_takes_no_memory(tmp_path: Path) -> None:
    replies = CannedReplies("stub", prompt_ids=12, sampled=60_000)
    with running_gateway(tmp_path, "--upstream-timeout", "60", replies=replies) as gateway:
        path = "/v1/chat/completions"
        gateway.post(path, chat(stream=True))
        before = memory_kib(gateway)
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stuck = stack.enter_context(connect(gateway, small=True))
                body = json.dumps(chat(stream=True)).encode()
                stuck.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)))
                stuck.sendall(body)
            wait_until(lambda: gateway.get("/pause").json()["in_flight"] == 8)
            for _ in range(20):
                assert gateway.get("/ready").status_code == 200
            assert gateway.get("/pause").json()["in_flight"] == 8
            assert memory_kib(gateway) - before < 8 * 3000


def test_pipelined_requests_whose_replies_nobody_reads_take_no_memory(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        page = len(gateway.get("/openapi.json").content)
        assert page > 20_000
        before = memory_kib(gateway)
        with connect(gateway, small=True) as greedy:
            greedy.settimeout(1)
            sent = 0
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(200):  # 10,000 requests for half a gigabyte
                    sent += greedy.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
            assert sent < 200 * 50 * 45 * 0.9, "the gateway reads on while nobody reads its replies"
            for _ in range(20):
                assert gateway.get("/ready").status_code == 200
            assert memory_kib(gateway) - before < 20_000


def test_big_bodies_that_are_pipelined_wait_unread(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        gateway.stub.spoil(Fault("slow", after=3))
        before = memory_kib(gateway)
        body = json.dumps(chat()).encode().ljust(4 << 20)
        with connect(gateway) as greedy:
            greedy.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(40):
                    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
                    greedy.sendall(head + body)
            assert memory_kib(gateway) - before < 60_000
            assert gateway.get("/ready").status_code == 200


def test_endless_trailers_and_empty_chunks_are_refused(hasty: GatewayProcess) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n"
    for more in (
        b"0\r\n" + b"x: " + b"a" * 400_000,
        b"0\r\n" + b"x: a\r\n" * 60_000,
        b"1;%s\r\na\r\n" % (b"e" * 400_000),
    ):
        with connect(hasty) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(head + more)
            assert status_of(read_all(connection)) in (400, 413, 0)
    assert hasty.get("/ready").status_code == 200


# Headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "status"), [(95, 200), (101, 431), (5000, 431)])
def test_more_headers_than_a_client_needs_are_refused(hasty: GatewayProcess, count: int, status: int) -> None:
    lines = b"".join(b"x-%d: a\r\n" % number for number in range(count))
    with connect(hasty) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%b\r\n" % lines)
        answer = read_all(connection)
    assert status_of(answer) == status, answer
    assert status == 200 or b'"headers_too_large"' in answer


# Connections -----------------------------------------------------------------------------------------------------


def test_connections_beyond_the_limit_are_told_so(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--max-connections", "10") as gateway:
        gateway.http.close()
        with contextlib.ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(connect(gateway))
            over = [stack.enter_context(connect(gateway)) for _ in range(5)]
            for connection in over:
                answer = read_all(connection)
                assert status_of(answer) == 503, answer
                assert b"retry-after: 1" in answer
                assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_busy"
        wait_until(lambda: _asked_anew(gateway) == 200)
        assert metric(gateway, "moorage_connections_refused_total") >= 5


def _asked_anew(gateway: GatewayProcess) -> int:
    with connect(gateway) as connection:
        connection.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return status_of(read_all(connection))


def test_running_out_of_files_neither_ends_it_nor_keeps_it_busy(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--max-connections", "100000") as gateway:
        opened = sum(1 for _ in Path(f"/proc/{gateway.process.pid}/fd").iterdir())
        soft, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (opened + 20, hard))
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connect(gateway)) for _ in range(100)]
            before, began = _cpu_s(gateway), time.monotonic()
            assert len(held) == 100
            gone = sum(_is_closed(connection) for connection in held)
            assert gone > 50
            assert gateway.get("/ready").status_code == 200  # on the connection that it has
            assert _cpu_s(gateway) - before < 0.5 * (time.monotonic() - began) + 0.5
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(lambda: _asked_anew(gateway) == 200)
        assert gateway.post(f"{init(gateway)['path']}/chat/completions", chat()).status_code == 200


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.02)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def _cpu_s(gateway: GatewayProcess) -> float:
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
