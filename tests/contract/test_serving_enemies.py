"""What is hardly HTTP, or meant to hurt: each gets an answer, none gets 500, and the API goes on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.serving_process import MODELS, Caller, ServingProcess, running_api

LIMIT = 256 * 1024
CHUNKED = ("Transfer-Encoding: chunked", "Connection: close", "Content-Type: application/yaml")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with running_api(tmp_path_factory.mktemp("serving")) as running:
        yield running


@pytest.fixture(scope="module")
def alice(api: ServingProcess) -> Caller:
    return api.user("alice")


@pytest.fixture(autouse=True)
def still_answers(api: ServingProcess) -> Iterator[None]:
    yield
    assert api.nobody.get("/health").status_code == 200


def raw(api: ServingProcess, *pieces: bytes, breaks_off: bool = False) -> bytes:
    """All that comes back. `breaks_off`: no more is sent, for all to see."""
    with socket.create_connection(("127.0.0.1", api.port), 30) as wire:
        for piece in pieces:
            try:
                wire.sendall(piece)
            except OSError:
                break
        if breaks_off:
            wire.shutdown(socket.SHUT_WR)
        found = b""
        while True:
            try:
                more = wire.recv(65536)
            except OSError:
                return found
            if not more:
                return found
            found += more


def head(method: str, path: str, token: str | None, *lines: str) -> bytes:
    shown = [f"Authorization: Bearer {token}"] if token is not None else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *shown, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/x.y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 2_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 400_000 + b"\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_told_so(api: ServingProcess, request_bytes: bytes) -> None:
    told = raw(api, request_bytes)
    assert told.startswith(b"HTTP/1.1 400 "), told[:200]
    assert b"application/problem+json" in told
    assert b'"code":"bad_http"' in told


@pytest.mark.parametrize("value", ["a\x01b", "ü" * 10, "Bearer \xff", "Bearer a,b", "bearer\ta", "Bearer  "])
def test_odd_tokens_are_no_tokens(api: ServingProcess, value: str) -> None:
    told = raw(api, head("GET", MODELS, None, f"Authorization: {value}", "Connection: close"))
    assert told.split(b" ")[1] in (b"401", b"400"), told[:200]


def test_two_tokens_are_none(api: ServingProcess, alice: Caller) -> None:
    lines = ("Authorization: Bearer other", "Connection: close")
    assert raw(api, head("GET", MODELS, alice.token, *lines)).split(b" ")[1] == b"401"


def test_a_body_without_end_is_cut_off(api: ServingProcess, alice: Caller) -> None:
    chunk = b"8000\r\n" + b"#" * 0x8000 + b"\r\n"
    begin = head("POST", MODELS, alice.token, *CHUNKED)
    told = raw(api, begin, *[chunk] * 64)
    assert told.split(b" ")[1] == b"413", told[:300]


def test_a_length_that_lies_is_413_before_a_byte_of_it(api: ServingProcess, alice: Caller) -> None:
    lines = (f"Content-Length: {10**18}", "Content-Type: application/yaml", "Connection: close")
    assert raw(api, head("POST", MODELS, alice.token, *lines)).split(b" ")[1] == b"413"
    assert raw(api, head("POST", MODELS, None, *lines)).split(b" ")[1] == b"401"


def test_chunks_that_are_none_are_400(api: ServingProcess, alice: Caller) -> None:
    begin = head("POST", MODELS, alice.token, *CHUNKED)
    told = raw(api, begin, b"5\r\nmodel\r\nzz\r\n")
    assert told == b"" or told.split(b" ")[1] == b"400", told[:300]


def test_a_body_that_breaks_off_changes_nothing(api: ServingProcess, alice: Caller) -> None:
    spec = b"model_id: half\nmodel_source: $HOME/common/hf/m\n"
    lines = (f"Content-Length: {len(spec) + 100}", "Content-Type: application/yaml")
    raw(api, head("POST", MODELS, alice.token, *lines), spec, breaks_off=True)
    assert "half" not in [one["model_id_suffix"] for one in alice.get(MODELS).json()["items"]]


def test_slow_senders_hold_nobody_up(api: ServingProcess, alice: Caller) -> None:
    lines = ("Content-Length: 100", "Content-Type: application/yaml")
    wires = [socket.create_connection(("127.0.0.1", api.port), 30) for _ in range(60)]
    try:
        for wire in wires:
            wire.sendall(head("POST", MODELS, alice.token, *lines) + b"m")
        assert alice.get(MODELS).status_code == 200
    finally:
        for wire in wires:
            wire.close()


def test_a_hundred_watches_hold_nobody_up(api: ServingProcess, alice: Caller) -> None:
    wires = [socket.create_connection(("127.0.0.1", api.port), 30) for _ in range(100)]
    try:
        for wire in wires:
            wire.sendall(head("GET", f"{MODELS}?watch=1", alice.token))
        for wire in wires:
            assert wire.recv(20).startswith(b"HTTP/1.1 200")
        assert alice.declare("among-watches")
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.parametrize(
    "body",
    [
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n",
        b"{" * 100_000,
        b"[" * 100_000,
        b"- " * 100_000,
        b"a: " * 80_000,
        b"? " * 100_000,
        b'{"a":' * 40_000,
        b"model_id: " + b"9" * 200_000,
        b'{"model_id": ' + b"9" * 200_000 + b"}",
        b"!!binary aaaa",
        b"\x00\x00\x00\x00",
        "model_id: \ud83d\ude00\n".encode("utf-8", "surrogatepass"),
        b'{"model_id": "\\ud800", "\\udfff": 1}',
        b"\xef\xbb\xbfmodel_id: m",
        b"%YAML 9.9\n---\na: b",
        "model_id: ﬀ\u202e\n".encode(),
        b"".join(b"field%d: 1\n" % number for number in range(15_000)),
    ],
)
@pytest.mark.parametrize("kind", ["application/yaml", "application/json"])
def test_bombs_are_400(alice: Caller, body: bytes, kind: str) -> None:
    reply = alice.post(MODELS, body, headers={"Content-Type": kind})
    assert reply.status_code == 400, reply.text[:300]
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert len(reply.content) < 8 * LIMIT


def test_many_at_once_get_what_is_theirs(api: ServingProcess) -> None:
    users = [api.user(f"crowd{number}") for number in range(8)]
    wrong: list[str] = []

    def work(user: Caller, name: str) -> None:
        mine = Caller(api.url, user.token)
        for number in range(5):
            mine.declare(f"m{number}")
        wrong.extend(one["user_id"] for one in mine.get(MODELS).json()["items"] if one["user_id"] != name)

    threads = [threading.Thread(target=work, args=(user, f"crowd{number}")) for number, user in enumerate(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert [len(user.get(MODELS).json()["items"]) for user in users] == [5] * 8


def test_one_that_was_killed_is_replaced_at_once(tmp_path: Path) -> None:
    crashed = ServingProcess(tmp_path)
    alice = crashed.user("alice")
    keys = [alice.declare("before")]
    alice.settled(keys[0], "RUNNING")
    keys.append(alice.declare("meanwhile"))
    crashed.kill()
    with running_api(tmp_path, tokens=(crashed.admin_token, crashed.gateway_token)) as api:
        began = time.monotonic()
        alice = Caller(api.url, alice.token)
        for key in [*keys, alice.declare("after")]:
            alice.settled(key, "RUNNING")
        assert time.monotonic() - began < 5
