"""The light way to a Docker engine: where it is, and one HTTP answer read by hand, from sockets that misbehave."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import PlatformUnreachable, PreflightError
from moorage.launch.platforms.docker.socket import (
    Endpoint,
    get_object,
    inspect,
    list_containers,
    parse_response,
    resolve_endpoint,
)

DEFAULT = "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("environ", "url", "is_light"),
    [
        ({}, DEFAULT, True),
        ({"DOCKER_HOST": ""}, DEFAULT, True),
        ({"DOCKER_HOST": "unix:///run/user/7/docker.sock"}, "unix:///run/user/7/docker.sock", True),
        ({"DOCKER_HOST": "unix://"}, DEFAULT, True),
        ({"DOCKER_HOST": "tcp://10.0.0.1"}, "tcp://10.0.0.1:2375", True),
        ({"DOCKER_HOST": "tcp://[::1]"}, "tcp://[::1]:2375", True),
        ({"DOCKER_HOST": "http://[::1]:99/"}, "tcp://[::1]:99", True),
        ({"DOCKER_HOST": "127.0.0.1:2376"}, "tcp://127.0.0.1:2376", True),
        ({"DOCKER_HOST": "ssh://me@far"}, "ssh://me@far", False),
        ({"DOCKER_HOST": "npipe:////./pipe/x"}, "npipe:////./pipe/x", False),
        ({"DOCKER_HOST": "unix:///x", "DOCKER_CERT_PATH": "/certs"}, "unix:///x", True),
        ({"DOCKER_CONTEXT": "default"}, DEFAULT, True),
        ({"DOCKER_HOST": "unix:///x", "DOCKER_CONTEXT": "no-such"}, "unix:///x", True),
    ],
)
def test_the_environment_says_where_the_engine_is(
    environ: dict[str, str], url: str, is_light: bool, tmp_path: Path
) -> None:
    found = resolve_endpoint({"HOME": str(tmp_path), **environ})
    assert (found.url, found.tls_folder, found.is_light) == (url, None, is_light)


@pytest.mark.parametrize(
    ("environ", "folder", "verify"),
    [
        ({"DOCKER_TLS_VERIFY": "1"}, "/home/me/.docker", True),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": "/config"}, "/config", True),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}, "/certs", True),
        ({"DOCKER_CERT_PATH": "/certs"}, "/certs", False),
    ],
)
def test_tls_is_not_for_the_light_way(environ: dict[str, str], folder: str, verify: bool) -> None:
    found = resolve_endpoint({"HOME": "/home/me", "DOCKER_HOST": "tcp://far:2376", **environ})
    assert (found.tls_folder, found.tls_verify, found.is_light) == (folder, verify, False)


def test_a_context_says_where_the_engine_is(tmp_path: Path) -> None:
    write_context(tmp_path, "rootless", {"Host": "unix:///run/user/7/docker.sock"})
    write_context(tmp_path, "far", {"Host": "tcp://far:2376", "SkipTLSVerify": True}, tls=True)
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "rootless"}))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert resolve_endpoint(environ).url == "unix:///run/user/7/docker.sock"
    far = resolve_endpoint(environ | {"DOCKER_CONTEXT": "far"})
    assert (far.url, far.tls_verify, far.is_light) == ("tcp://far:2376", False, False)
    assert far.tls_folder is not None and Path(far.tls_folder, "ca.pem").exists()
    assert resolve_endpoint(environ | {"DOCKER_CONTEXT": "default"}).url == DEFAULT


@pytest.mark.parametrize("meta", [None, "not json", "[]", '{"Endpoints": {}}', '{"Endpoints": {"docker": {}}}'])
def test_a_context_that_cannot_be_read_is_no_default(tmp_path: Path, meta: str | None) -> None:
    if meta is not None:
        folder = context_folder(tmp_path, "meta", "mine")
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(meta)
    with pytest.raises(PreflightError, match="'mine'") as caught:
        resolve_endpoint({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "mine"})
    assert caught.value.code == "bad_docker_context"


@pytest.mark.parametrize("config", ["", "not json", "[]", '{"currentContext": 7}', '{"currentContext": ""}'])
def test_a_config_that_says_nothing_is_the_default(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert resolve_endpoint({"DOCKER_CONFIG": str(tmp_path)}).url == DEFAULT


@given(st.lists(st.binary(min_size=1, max_size=50)), st.sampled_from(["chunked", "length", "close"]))
def test_a_body_is_whole_at_its_last_byte_and_not_before(pieces: list[bytes], framing: str) -> None:
    body = b"".join(pieces)
    raw = http_answer(pieces, framing)
    assert parsed(raw, ended=True) == (200, body)
    if framing == "close":
        assert parsed(raw, ended=False) is None
        return
    assert parsed(raw, ended=False) == (200, body)
    for cut in range(len(raw) - (2 if framing == "chunked" else 0)):
        assert parsed(raw[:cut], ended=False) is None
        with pytest.raises(ValueError, match="cut short"):
            parse_response(raw[:cut], ended=True)


@given(st.binary())
def test_no_bytes_make_the_reader_do_anything_but_answer_or_raise_value_error(raw: bytes) -> None:
    try:
        parse_response(raw, ended=True)
        parse_response(b"HTTP/1.1 " + raw + b"\r\n\r\n", ended=True)
        parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + raw, ended=True)
    except ValueError:
        return


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_containers_are_listed_in_one_request(tmp_path: Path, framing: str) -> None:
    answer = http_answer([b'[{"Id": "1", ', b'"Names": ["/a"]}]'], framing)
    with canned_server(tmp_path, [answer[:20], answer[20:]]) as (endpoint, requests):
        assert list_containers(endpoint, names=["a", "b"], timeout_s=5) == [{"Id": "1", "Names": ["/a"]}]
    (request,) = requests
    assert request.startswith(
        b"GET /containers/json?all=1&filters=%7B%22name%22%3A%20%5B%22a%22%2C%20%22b%22%5D%7D HTTP"
    )


def test_many_names_are_not_sent(tmp_path: Path) -> None:
    with canned_server(tmp_path, [http_answer([b"[]"], "length")]) as (endpoint, requests):
        list_containers(endpoint, names=[f"name-{number}" for number in range(100)], timeout_s=5)
    assert b"name" not in requests[0]


def test_an_engine_on_tcp(tmp_path: Path) -> None:
    with canned_server(None, [http_answer([b'{"Version": "28"}'], "chunked")]) as (endpoint, _):
        assert get_object(endpoint, "/version", timeout_s=5) == {"Version": "28"}


def test_nothing_of_that_name_is_none(tmp_path: Path) -> None:
    answer = http_answer([b'{"message": "No such container: x"}'], "length", status="404 Not Found")
    with canned_server(tmp_path, [answer]) as (endpoint, _):
        assert inspect(endpoint, "x", timeout_s=5) is None


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([], "cut short"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], "not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]"], "cut short"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n[]"], "does not answer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<htm>"], "does not answer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"], "as a Docker engine does"),
        ([b'HTTP/1.1 500 Oops\r\nContent-Length: 18\r\n\r\n{"message": "bad"}'], "answered 500: bad"),
    ],
)
def test_what_is_no_good_answer_is_unreachable(tmp_path: Path, pieces: list[bytes], told: str) -> None:
    with canned_server(tmp_path, pieces) as (endpoint, _), pytest.raises(PlatformUnreachable, match=told):
        list_containers(endpoint, timeout_s=5)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n["])
def test_a_socket_that_hangs_is_given_up(tmp_path: Path, first: bytes) -> None:
    with canned_server(tmp_path, [first], hang=True) as (endpoint, _):
        began = time.monotonic()
        with pytest.raises(PlatformUnreachable, match=r"no full answer within 0\.2 s"):
            list_containers(endpoint, timeout_s=0.2)
        assert time.monotonic() - began < 2


def test_a_drip_of_bytes_is_given_up_too(tmp_path: Path) -> None:
    drip = [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", *[b" "] * 100]
    with (
        canned_server(tmp_path, drip, pause_s=0.05) as (endpoint, _),
        pytest.raises(PlatformUnreachable, match="within"),
    ):
        list_containers(endpoint, timeout_s=0.3)


def test_nothing_there_says_how_to_start_it(tmp_path: Path) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    with socket.create_server(("127.0.0.1", 0)) as holder:
        closed = holder.getsockname()[1]
    for url in (f"unix://{tmp_path}/none.sock", f"unix://{dead}", f"tcp://127.0.0.1:{closed}"):
        with pytest.raises(PlatformUnreachable, match="no Docker engine listens") as caught:
            list_containers(Endpoint(url), timeout_s=5)
        assert "DOCKER_HOST" in caught.value.hint


def parsed(raw: bytes, *, ended: bool) -> tuple[int, bytes] | None:
    response = parse_response(raw, ended=ended)
    return None if response is None else (response.status, response.body)


@contextmanager
def canned_server(
    folder: Path | None, pieces: Sequence[bytes], *, hang: bool = False, pause_s: float = 0.0
) -> Iterator[tuple[Endpoint, list[bytes]]]:
    """A socket that takes one request, sends the pieces and closes (or hangs); a path in `folder`, else TCP."""
    listener = socket.socket(socket.AF_UNIX) if folder else socket.create_server(("127.0.0.1", 0))
    if folder:
        listener.bind(str(folder / "s"))
        listener.listen()
    requests: list[bytes] = []
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            requests.append(connection.recv(1 << 16))
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    done.wait(pause_s)
            except OSError:
                return
            if hang:
                done.wait(30)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Endpoint(f"unix://{folder}/s" if folder else f"tcp://127.0.0.1:{listener.getsockname()[1]}"), requests
    finally:
        done.set()
        thread.join(30)
        listener.close()


def http_answer(pieces: Sequence[bytes], framing: str, status: str = "200 OK") -> bytes:
    body = b"".join(pieces)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
    if framing == "chunked":
        chunks = b"".join(b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"
    if framing == "length":
        return f"{head}content-length:{len(body)}\r\n\r\n".encode() + body
    return f"{head}\r\n".encode() + body


def context_folder(config: Path, kind: str, name: str) -> Path:
    return config / "contexts" / kind / hashlib.sha256(name.encode()).hexdigest()


def write_context(config: Path, name: str, docker: dict[str, object], *, tls: bool = False) -> None:
    folder = context_folder(config, "meta", name)
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": docker}}))
    if tls:
        certificates = context_folder(config, "tls", name) / "docker"
        certificates.mkdir(parents=True)
        (certificates / "ca.pem").touch()
