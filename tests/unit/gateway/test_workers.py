"""What workers and their parent decide, and how they talk."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.fleet.upstreams import from_urls
from moorage.errors import ConflictError, FailedError, MoorageError, PortTaken, PreflightError
from moorage.gateway.log import Log
from moorage.gateway.settings import Settings
from moorage.gateway.workers import peers as peers_module
from moorage.gateway.workers.folder import NEW_S, PREFIX, sockets_folder
from moorage.gateway.workers.pauses import LONGEST_S, pause_s
from moorage.gateway.workers.peers import Peers
from moorage.gateway.workers.port import bind_alone, hold_port, join_port
from moorage.gateway.workers.report import fault_of, said_fault, said_ready, url_of
from moorage.gateway.workers.shares import share, share_of_endpoints, share_of_settings


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_shares_are_the_whole_unless_it_is_less_than_one_each(limit: int, count: int) -> None:
    shares = [share(limit, index, count) for index in range(count)]
    assert sum(shares) == max(limit, count)
    assert max(shares) - min(shares) <= 1


def test_what_is_shared_out_and_what_is_not() -> None:
    whole = Settings(db="sqlite:///x", max_sessions=10, max_concurrency=9, max_connections=10, memory_bytes=1000)
    part = share_of_settings(whole, 0, 4)
    assert (part.max_concurrency, part.max_connections, part.memory_bytes) == (3, 3, 250)
    assert (part.max_sessions, part.max_body_bytes) == (10, whole.max_body_bytes)
    [endpoint] = share_of_endpoints(from_urls("http://127.0.0.1:1"), 1, 3)
    assert (endpoint.num_max_requests_at_once, endpoint.num_requests_for_eval) == (171, 21)


def test_pauses_grow_and_end() -> None:
    pauses = [pause_s(deaths) for deaths in range(1, 40)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_S
    assert pause_s(10**9) == LONGEST_S


@pytest.mark.parametrize(
    "fault",
    [
        PreflightError("no", code="store_corrupt", hint="keep a copy", next=["moor x"], data={"a": [1]}),
        PortTaken("taken"),
        ConflictError("é \ud800 'x'"),
    ],
)
def test_a_workers_fault_is_raised_by_its_parent(fault: MoorageError) -> None:
    told = fault_of(said_fault(fault))
    assert type(told) is type(fault)
    for name in ("message", "code", "hint", "next", "data", "exit_status"):
        assert getattr(told, name) == getattr(fault, name)
    assert url_of(said_fault(fault)) is None


@given(st.binary(max_size=60))
def test_what_a_dying_worker_says_is_no_fault(said: bytes) -> None:
    for cut in (said, said_ready("http://127.0.0.1:1")[:-1], said_fault(FailedError("no"))[:-1], b"[]", b'{"kind": 1'):
        assert url_of(cut) is None or b"url" in cut
        assert fault_of(cut) is None or b"kind" in cut
    assert url_of(said_ready("http://127.0.0.1:1")) == "http://127.0.0.1:1"


def test_a_port_that_is_held_is_joined_and_taken_for_all_others() -> None:
    with hold_port("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with join_port("127.0.0.1", port) as one, join_port("127.0.0.1", port) as other:
            for listening in (one, other):
                listening.listen(16)
            for taking in (hold_port, bind_alone):
                with pytest.raises(ConflictError, match=str(port)):
                    taking("127.0.0.1", port)
            for _ in range(8):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with bind_alone("127.0.0.1", port):
        pass


def test_folders_that_killed_parents_left_go_and_those_in_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as where:  # its path is short, unlike tmp_path
        monkeypatch.setattr(tempfile, "tempdir", where)
        check_folders(Path(where))


def check_folders(where: Path) -> None:
    left = Path(tempfile.mkdtemp(prefix=PREFIX))
    (left / "0").touch()
    long_ago = time.time() - 2 * NEW_S
    with sockets_folder() as used:
        young = Path(tempfile.mkdtemp(prefix=PREFIX))
        for folder in (left, used):
            os.utime(folder, (long_ago, long_ago))
        with sockets_folder() as other:
            assert sorted(where.iterdir()) == sorted([used, young, other])
            assert other.stat().st_mode & 0o777 == 0o700
    assert list(where.iterdir()) == [young]


def run_peers(folder: Path, scenario: Any, count: int = 3) -> io.StringIO:
    """`scenario(peers)` among so many; what they logged."""
    logged = io.StringIO()

    async def run() -> None:
        everybody = [Peers(folder, index, count, log=Log(logged, worker=index)) for index in range(count)]
        try:
            await scenario(everybody)
        finally:
            for one in everybody:
                await one.close()

    asyncio.run(run())
    return logged


def named(one: Peers) -> Any:
    async def answer(said: bytes) -> bytes:
        return b"%d heard %b" % (one.index, said)

    return answer


def test_those_that_answer_in_time_are_told_by_their_number(tmp_path: Path) -> None:
    async def scenario(everybody: list[Peers]) -> None:
        first, second, third = everybody
        for one in (second, third):
            one.on("name", named(one))
        stuck = asyncio.Event()

        async def never(said: bytes) -> bytes:
            await stuck.wait()
            return said

        second.on("stuck", never)
        third.on("stuck", named(third))
        assert await first.ask("name") == []  # nobody is there yet
        for one in everybody:
            await one.start()
        assert await first.ask("name", b"x") == [(1, b"1 heard x"), (2, b"2 heard x")]
        assert await first.ask("nobody has this") == []
        assert await first.ask("stuck", within_s=0.1) == [(2, b"2 heard ")]
        assert await first.ask("name", b"y" * 3_000_000) != []
        await third.close()
        assert await first.ask("name", b"x") == [(1, b"1 heard x")]

    run_peers(tmp_path, scenario)


def test_what_is_told_arrives_in_order_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario(everybody: list[Peers]) -> None:
        heard: list[bytes] = []
        more = asyncio.Event()

        async def hear(said: bytes) -> bytes:
            heard.append(said)
            more.set()
            return b""

        async def until(what: bytes) -> None:
            async with asyncio.timeout(30):
                while what not in heard:
                    more.clear()
                    await more.wait()

        first, second = everybody
        second.on("told", hear)
        await first.start()
        first.tell("told", b"into the void")
        await second.start()
        for number in range(500):
            first.tell("told", b"%d" % number)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(b"499")
        assert [said for said in heard if said.isdigit()][-100:] == [b"%d" % number for number in range(400, 500)]
        await second.close()
        first.tell("told", b"lost")
        again = Peers(tmp_path, 1, 2, log=Log(io.StringIO()))
        again.on("told", hear)
        await again.start()
        async with asyncio.timeout(30):  # it says hello, and is connected to anew
            while b"again" not in heard:
                first.tell("told", b"again")
                await asyncio.sleep(0.01)
        await again.close()

    run_peers(tmp_path, scenario, count=2)


def test_a_fault_is_logged_and_no_answer(tmp_path: Path) -> None:
    async def scenario(everybody: list[Peers]) -> None:
        async def fails(said: bytes) -> bytes:
            raise FailedError("it broke", code="broke")

        everybody[1].on("fails", fails)
        everybody[1].on("name", named(everybody[1]))
        for one in everybody:
            await one.start()
        assert await everybody[0].ask("fails") == []
        everybody[0].tell("fails")
        everybody[0].tell("name")  # the line goes on
        assert await everybody[0].ask("name") == [(1, b"1 heard ")]

    logged = run_peers(tmp_path, scenario, count=2)
    assert '"event":"broke"' in logged.getvalue()


def test_what_no_worker_says_closes_the_connection(tmp_path: Path) -> None:
    async def scenario(everybody: list[Peers]) -> None:
        await everybody[0].start()
        for said in (b"\xff" * 64, b"\x04\0\0\0abcd", b"", b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "0"))
            writer.write(said)
            writer.write_eof()
            async with asyncio.timeout(10):
                assert await reader.read() == b""
            writer.close()
        assert peers_module.LARGEST_BYTES < 1 << 30

    run_peers(tmp_path, scenario, count=1)
    assert not (tmp_path / "0").exists()
