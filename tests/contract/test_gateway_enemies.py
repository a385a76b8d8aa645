"""Clients that mean no good, or cannot speak HTTP: smuggling, half-closed sockets, huge heads, slow and broken bodies.

After each the session still records, what was recorded is whole, and nothing of a request that was not whole was sent.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.gateway_calls import (
    chat,
    check_openai,
    check_problem,
    fresh,
    init,
    send_and_leave,
    step,
    steps_of,
    submit,
)
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.stand_ins.engine_stub import Fault

BODY_LIMIT = 200_000
BODY = json.dumps(chat()).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    flags = ("--max-body-bytes", str(BODY_LIMIT))
    with running_gateway(tmp_path_factory.mktemp("gateway"), *flags) as running:
        yield running


@pytest.fixture
def made(gateway: GatewayProcess) -> Iterator[dict[str, str]]:
    """A trajectory; after the test it takes one more call, and the log tells of nothing unexpected."""
    trajectory, logged = init(gateway), len(gateway.said)
    yield trajectory
    before = len(steps_of(gateway, trajectory["trajectory_uid"]))
    reply = gateway.post(f"{trajectory['path']}/v1/chat/completions", chat(seed=99))
    assert reply.status_code == 200, reply.text
    steps = steps_of(gateway, trajectory["trajectory_uid"])
    assert len(steps) == before + 1
    assert all(len(one["response_ids"]) == len(one["rollout_log_probs"]) > 0 for one in steps)
    assert not [line for line in gateway.said[logged:] if '"traceback"' in line]


def head_of(made: dict[str, str], *lines: str) -> bytes:
    path = f"{made['path']}/v1/chat/completions"
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *lines, "", ""]).encode()


def connect(gateway: GatewayProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=20)


def said_to(gateway: GatewayProcess, *parts: bytes, end: bool = True) -> bytes:
    """Everything that is answered until the gateway closes, or, with `end`, until both sides are done."""
    with connect(gateway) as connection:
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            found += part
    return found


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


# Smuggling -------------------------------------------------------------------------------------------------------

HIDDEN = b"POST /init_trajectory HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ["content-length: 5", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", "content-length: 5"],
        ["content-length: 5", "content-length: 6"],
        ["content-length: 5, 6"],
        ["content-length: +5"],
        ["content-length: -5"],
        ["content-length: 0x5"],
        ["content-length: 5 5"],
        ["content-length : 5"],
        ["transfer-encoding: xchunked"],
        ["transfer-encoding: chunked, identity"],
        ["transfer-encoding: chunked", "transfer-encoding: identity"],
        ["transfer-encoding : chunked"],
        ["content-length: 99999999999999999999999"],
        ["x: a\rcontent-length: 5"],
        ["x: a\x00b", "content-length: 5"],
    ],
    ids=str,
)
def test_a_request_of_unclear_length_is_refused(
    gateway: GatewayProcess, made: dict[str, str], lines: list[str]
) -> None:
    before = len(gateway.get("/pool/trajectories").json()["trajectories"])
    asked = len(gateway.stub.requests)
    answer = said_to(gateway, head_of(made, *lines), b"0\r\n\r\n", HIDDEN)
    assert len(statuses(answer)) <= 1, answer
    assert all(400 <= status < 500 for status in statuses(answer)), answer
    assert len(gateway.get("/pool/trajectories").json()["trajectories"]) == before
    assert len(gateway.stub.requests) == asked


def test_requests_that_follow_each_other_are_answered_in_order(gateway: GatewayProcess, made: dict[str, str]) -> None:
    whole = head_of(made, f"content-length: {len(BODY)}") + BODY
    last = b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = said_to(gateway, whole + whole + last, end=False)
    assert statuses(answer) == [200, 200, 200], answer
    assert answer.rstrip().endswith(b'{"status":"ready"}')
    assert len(steps_of(gateway, made["trajectory_uid"])) == 2


# What is no HTTP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\r\n" * 1000,
        b"GET\r\n\r\n",
        b"GET /ready HTTP/9.9\r\n\r\n",
        b"GET /rea\x00dy HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 4096,
    ],
)
def test_what_is_no_http_is_refused(gateway: GatewayProcess, made: dict[str, str], said: bytes) -> None:
    answer = said_to(gateway, said)
    assert all(400 <= status < 506 and status != 500 for status in statuses(answer)), answer


@pytest.mark.parametrize("where", ["one header", "many headers", "target"])
def test_huge_heads_are_refused(gateway: GatewayProcess, made: dict[str, str], where: str) -> None:
    if where == "one header":
        said = head_of(made, f"x: {'a' * 3_000_000}", f"content-length: {len(BODY)}") + BODY
    elif where == "many headers":
        said = head_of(made, *(f"x-{number}: {'a' * 100}" for number in range(30_000))) + BODY
    else:
        said = f"GET /{'a' * 3_000_000} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    answer = said_to(gateway, said, end=False)
    assert all(status in (400, 404, 413, 414, 431) for status in statuses(answer)), answer[:200]
    assert steps_of(gateway, made["trajectory_uid"]) == []


# Bodies ----------------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_big_is_refused_before_it_comes(gateway: GatewayProcess, made: dict[str, str]) -> None:
    with connect(gateway) as connection:
        connection.sendall(head_of(made, f"content-length: {BODY_LIMIT + 1}", "expect: 100-continue"))
        assert statuses(connection.recv(65536)) == [413]
    check_openai(gateway.post(f"{made['path']}/v1/chat/completions", b" " * (BODY_LIMIT + 1)), 413)
    check_problem(gateway.post("/submit_steps", b" " * (BODY_LIMIT + 1)), 413)
    assert gateway.post(f"{made['path']}/v1/chat/completions", BODY.ljust(BODY_LIMIT)).status_code == 200


def test_a_chunked_body_that_grows_too_big_is_refused(gateway: GatewayProcess, made: dict[str, str]) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    head = head_of(made, "transfer-encoding: chunked", "connection: close")
    answer = said_to(gateway, head, *[chunk] * 8, b"0\r\n\r\n", end=False)
    assert statuses(answer) in ([413], []), answer[:200]  # none: it was closed while we still sent
    assert steps_of(gateway, made["trajectory_uid"]) == []


def test_a_chunked_body_is_read_whole(gateway: GatewayProcess, made: dict[str, str]) -> None:
    pieces = [b"%x\r\n%s\r\n" % (1, BODY[at : at + 1]) for at in range(len(BODY))]
    lines = ("transfer-encoding: chunked", "connection: close", "expect: 100-continue")
    answer = said_to(gateway, head_of(made, *lines), *pieces, b"0\r\nx-trailer: a\r\n\r\n", end=False)
    assert statuses(answer)[-1] == 200, answer
    assert len(steps_of(gateway, made["trajectory_uid"])) == 1


@pytest.mark.parametrize("chunk", [b"ZZ\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5\r\nabcdefgh\r\n", b"5" * 70000])
def test_broken_chunks_are_refused(gateway: GatewayProcess, made: dict[str, str], chunk: bytes) -> None:
    answer = said_to(gateway, head_of(made, "transfer-encoding: chunked"), chunk, b"0\r\n\r\n", end=False)
    assert all(status in (400, 413) for status in statuses(answer)), answer[:200]
    assert steps_of(gateway, made["trajectory_uid"]) == []


@pytest.mark.parametrize("lines", [[f"content-length: {len(BODY)}"], ["transfer-encoding: chunked"]], ids=str)
def test_a_body_that_never_ends_holds_up_nobody(
    gateway: GatewayProcess, made: dict[str, str], lines: list[str]
) -> None:
    asked = len(gateway.stub.requests)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(connect(gateway))
            connection.sendall(head_of(made, *lines) + (BODY[:-1] if "length" in lines[0] else b"1\r\n{\r\n"))
        assert gateway.get("/ready").status_code == 200
        assert gateway.post(f"{init(gateway)['path']}/chat/completions", chat()).status_code == 200
    assert len(gateway.stub.requests) == asked + 1
    assert steps_of(gateway, made["trajectory_uid"]) == []


def test_a_body_that_comes_byte_by_byte_is_answered(gateway: GatewayProcess, made: dict[str, str]) -> None:
    with connect(gateway) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head_of(made, f"content-length: {len(BODY)}") + BODY:
            connection.sendall(bytes((byte,)))
        assert statuses(connection.recv(65536)) == [200]


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"messages":[{"role":"user","content":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}]}",
        b'{"messages":[{"role":"user","content":"a"}],"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"messages":[{"role":"user","content":"a"}],"n":1' + b"0" * 5000 + b"}",
        b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
        b'{"messages":[{"role":"user","content":"a"}],"n":0}',
        b'{"messages":[{"role":"user","content":"a"}],"n":-1}',
        b'{"messages":[{"role":"user","content":"a"}],"n":1000000}',
        b'{"messages":[{"role":"user","content":"a"}],"stream":"yes"}',
        b'{"messages":[{"role":"user","content":"a"}],"tools":"all"}',
        b'{"messages":[{"role":"user","content":"a"}],"logprobs":3}',
        b'{"messages":[{"role":7,"content":"a"}]}',
        '{"messages":[{"role":"user","content":"a"}]}'.encode("utf-16"),
        b"\x1f\x8b\x08\x00" + b"\x00" * 50,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_bodies_that_are_meant_to_hurt(gateway: GatewayProcess, made: dict[str, str], body: bytes) -> None:
    check_openai(gateway.post(f"{made['path']}/v1/chat/completions", body), 400)
    assert steps_of(gateway, made["trajectory_uid"]) == []


@pytest.mark.parametrize(
    "content",
    [
        "\\ud800",
        "\\u0000",
        "\u202e\ufeff",
        "'; DROP TABLE calls; --",
        '\\"token_ids\\":[1,2],\\"prompt_token_ids\\":[3]',
    ],
)
def test_texts_that_are_meant_to_hurt_are_texts(gateway: GatewayProcess, made: dict[str, str], content: str) -> None:
    body = f'{{"messages":[{{"role":"user","content":"{content}"}}],"stream":false}}'.encode()
    assert gateway.post(f"{made['path']}/v1/chat/completions", body).status_code in (200, 400)


@pytest.mark.parametrize("version", ["²", "--3", "-", "3.5", 2**70, -(2**70), 1e300, True, [], {}, None], ids=repr)
def test_a_policy_version_that_is_no_number_is_none(
    gateway: GatewayProcess, made: dict[str, str], version: Any
) -> None:
    registered = gateway.post(f"{made['path']}/register_trajectory", {"metadata": {"policy_version": version}})
    assert registered.status_code in (200, 422)
    reply = gateway.post(f"{made['path']}/v1/chat/completions", chat())
    assert reply.status_code == 200, reply.text
    [stored] = steps_of(gateway, made["trajectory_uid"])
    assert isinstance(stored["policy_version"], int)


@pytest.mark.parametrize("count", ["²", "-1", "1e3", "", "9" * 5000])
def test_a_retry_count_that_is_no_number_is_no_evidence(
    gateway: GatewayProcess, made: dict[str, str], count: str
) -> None:
    headers = {"x-stainless-retry-count": count.encode("latin-1")}
    assert gateway.post(f"{made['path']}/v1/chat/completions", chat(), headers=headers).status_code == 200


@pytest.mark.parametrize("query", ["cursor=%C2%B2", "cursor=-1", "cursor=1.5", "cursor=" + "9" * 5000])
def test_event_cursors_that_are_none(gateway: GatewayProcess, made: dict[str, str], query: str) -> None:
    with gateway.get(f"/pool/events?{query}", stream=True) as reply:
        check_problem(reply, 422)


@pytest.mark.parametrize("lease_s", [1e12, 1e300])
def test_a_lease_that_never_ends_is_refused_and_leases_nothing(
    gateway: GatewayProcess, made: dict[str, str], lease_s: float
) -> None:
    channel = fresh()
    assert submit(gateway, step(fresh(), is_last=True), channel=channel).status_code == 200
    check_problem(gateway.post("/pool/lease", {"channel": channel, "lease_s": lease_s}), 422)
    assert len(gateway.post("/pool/lease", {"channel": channel}).json()["leases"]) == 1


def test_deep_steps_are_refused(gateway: GatewayProcess, made: dict[str, str]) -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    deep_step = b'{"trajectory_uid":"t","prompt_ids":[1],"response_ids":[2],"multi_modal_data":%s}' % deep
    reply = gateway.post("/submit_steps", b'{"steps":[%s]}' % deep_step)
    assert reply.status_code in (400, 422), reply.text


# Clients that go away --------------------------------------------------------------------------------------------


def test_a_half_closed_socket_gets_its_reply_or_none(gateway: GatewayProcess, made: dict[str, str]) -> None:
    for stream in (False, True):
        body = json.dumps(chat(stream=stream)).encode()
        answer = said_to(gateway, head_of(made, f"content-length: {len(body)}", "connection: close") + body)
        assert statuses(answer) in ([200], [])
        whole = b'"finish_reason":"stop"' in answer if not stream else b"[DONE]" in answer
        stored = steps_of(gateway, made["trajectory_uid"])
        assert not whole or stored[-1]["delivered"]


def test_a_socket_half_closed_before_the_body_is_over(gateway: GatewayProcess, made: dict[str, str]) -> None:
    answer = said_to(gateway, head_of(made, f"content-length: {len(BODY)}") + BODY[:-3])
    assert all(status == 400 for status in statuses(answer))
    assert steps_of(gateway, made["trajectory_uid"]) == []


def test_clients_that_vanish_leave_nothing_half_recorded(gateway: GatewayProcess, made: dict[str, str]) -> None:
    path, before = f"{made['path']}/v1/chat/completions", len(gateway.stub.requests)
    gateway.stub.spoil(*(Fault("slow", after=4) for _ in range(20)))
    left = [send_and_leave(gateway, path, chat(stream=number % 2 == 0)) for number in range(20)]
    wait_until(lambda: len(gateway.stub.requests) == before + 20)
    for connection in left:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()
    wait_until(lambda: all(one.gone for one in gateway.stub.requests[before:]), within_s=10)
    assert steps_of(gateway, made["trajectory_uid"]) == []
    wait_until(lambda: gateway.get("/health").status_code == 200)


def test_a_reader_that_reads_nothing_holds_up_nobody(gateway: GatewayProcess, made: dict[str, str]) -> None:
    gateway.stub.stub.pace_s = 0.01
    path = f"{init(gateway)['path']}/v1/chat/completions"
    stuck = [send_and_leave(gateway, path, chat(stream=True)) for _ in range(5)]
    done = threading.Event()

    def ask() -> None:
        assert gateway.post(f"{init(gateway)['path']}/chat/completions", chat()).status_code == 200
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    assert done.wait(20)
    for connection in stuck:
        connection.close()
    gateway.stub.stub.pace_s = 0
