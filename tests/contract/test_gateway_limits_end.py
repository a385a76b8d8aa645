"""The end of a gateway: what is in flight ends or is broken off, and whoever is connected is told."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.gateway_calls import chat, init, send_and_leave, steps_of
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.contract.raw_sockets import BIG, BigReplies, connect, read_all, status_of
from tests.stand_ins.engine_stub import Fault


def test_ending_answers_what_is_in_flight_and_says_so_at_once(tmp_path: Path) -> None:
    """A whole reply and a stream end whole; a kept connection hears that it is the last, and /ready is 503."""
    with running_gateway(tmp_path) as gateway, ThreadPoolExecutor(4) as threads:
        whole, streamed, before = init(gateway), init(gateway), len(gateway.stub.requests)
        gateway.stub.stub.pace_s = 0.15
        gateway.stub.spoil(Fault("slow", after=1.5), Fault("slow", after=0.5))
        asked = threads.submit(gateway.post, f"{whole['path']}/chat/completions", chat())
        wait_until(lambda: len(gateway.stub.requests) == before + 1)
        with connect(gateway) as stream, connect(gateway) as kept, connect(gateway) as idle:
            body = json.dumps(chat(stream=True)).encode()
            head = (
                f"POST {streamed['path']}/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            stream.sendall(head.encode() + body)
            wait_until(lambda: len(gateway.stub.requests) == before + 2)
            kept.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
            assert status_of(kept.recv(65536)) == 200
            gateway.process.send_signal(signal.SIGTERM)
            wait_until(lambda: any('"draining"' in line for line in gateway.said))
            kept.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
            last = read_all(kept)
            assert status_of(last) == 503
            assert b'"code":"draining"' in last
            assert b"connection: close" in last
            assert read_all(idle) == b""
            with pytest.raises(ConnectionError):
                connect(gateway)
            told = read_all(stream)
            assert told.endswith(b"0\r\n\r\n")
            assert b"[DONE]" in told
        assert asked.result(20).status_code == 200
        assert gateway.process.wait(20) == 0
        assert '"broken_off":0' in gateway.said[-2] + gateway.said[-1]
    with running_gateway(tmp_path) as again:
        for made in (whole, streamed):
            [stored] = steps_of(again, made["trajectory_uid"])
            assert stored["delivered"]


def test_what_does_not_end_in_time_is_broken_off_and_nothing_is_half_recorded(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--drain-s", "0.7", "--upstream-timeout", "60") as gateway:
        whole, streamed, before = init(gateway), init(gateway), len(gateway.stub.requests)
        gateway.stub.stub.pace_s = 0.4
        gateway.stub.spoil(Fault("slow", after=30))
        left = [send_and_leave(gateway, f"{whole['path']}/chat/completions", chat())]
        wait_until(lambda: len(gateway.stub.requests) == before + 1)
        left.append(send_and_leave(gateway, f"{streamed['path']}/chat/completions", chat(stream=True)))
        wait_until(lambda: len(gateway.stub.requests) == before + 2)
        assert status_of(left[1].recv(65536)) == 200
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 15
        assert '"broken_off":2' in "".join(gateway.said[-3:])
        answers = [read_all(connection) for connection in left]
        assert answers[0] == b""
        assert b"[DONE]" not in answers[1]
        for connection in left:
            connection.close()
    with running_gateway(tmp_path) as again:
        assert steps_of(again, whole["trajectory_uid"]) == []
        assert all(not one["delivered"] for one in steps_of(again, streamed["trajectory_uid"]))


def test_a_reply_that_is_still_being_read_is_not_cut(tmp_path: Path) -> None:
    with running_gateway(tmp_path, replies=BigReplies()) as gateway:
        with connect(gateway, small=True) as slow:
            slow.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
            got = len(slow.recv(1000))
            gateway.process.send_signal(signal.SIGTERM)
            wait_until(lambda: any('"draining"' in line for line in gateway.said))
            while part := slow.recv(1 << 20):
                got += len(part)
        assert got > BIG
        assert gateway.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with running_gateway(tmp_path, "--upstream-timeout", "60") as gateway:
        before = len(gateway.stub.requests)
        gateway.stub.spoil(Fault("slow", after=40))
        with send_and_leave(gateway, "/v1/chat/completions", chat()):
            wait_until(lambda: len(gateway.stub.requests) > before)
            gateway.process.send_signal(number)
            wait_until(lambda: any('"draining"' in line for line in gateway.said))
            began = time.monotonic()
            wait_until(lambda: _signalled(gateway, number), within_s=20)
            assert time.monotonic() - began < 10
            assert gateway.process.returncode != 0


def _signalled(gateway: GatewayProcess, number: signal.Signals) -> bool:
    """The handlers are gone a moment after the first signal was heeded."""
    if gateway.process.poll() is None:
        gateway.process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        gateway.process.wait(0.2)
    return gateway.process.poll() is not None
