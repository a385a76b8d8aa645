"""A gateway that serves https: every kind of reply, the usual clients, wrong files, new files while it runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from openai import OpenAI

from tests.conftest import Moor
from tests.contract.gateway_calls import SAID, chat, init
from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until


class Pair:
    """A certificate for localhost that signs itself, and its key."""

    def __init__(self, folder: Path, name: str, days: int = 30) -> None:
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-keyout", str(self.key), "-out", str(self.certificate), "-subj", "/CN=localhost", "-days", str(days)]
        words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run(words, check=True, capture_output=True)

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))

    def trusted(self) -> ssl.SSLContext:
        """What a client has that trusts it."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def session(self) -> requests.Session:
        client = requests.Session()
        client.trust_env = False
        client.verify = str(self.certificate)
        return client


@contextlib.contextmanager
def serving(folder: Path, pair: Pair, *flags: str) -> Iterator[GatewayProcess]:
    stub = StubThread()
    try:
        gateway = GatewayProcess(stub, folder / "gateway.db", *pair.flags, *flags, until_ready=False)
        gateway.url = f"https://localhost:{gateway.port}"
        gateway.http = pair.session()
        try:
            wait_until(lambda: gateway.get("/ready").status_code == 200)
            yield gateway
        finally:
            gateway.kill()
    finally:
        stub.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"), "gate")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[GatewayProcess]:
    with serving(tmp_path_factory.mktemp("tls"), pair) as running:
        yield running


def connect(gateway: GatewayProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    return context.wrap_socket(plain, server_hostname="localhost")


# Serving -----------------------------------------------------------------------------------------------------------


def test_it_says_that_it_is_https(gateway: GatewayProcess) -> None:
    assert any("gateway on https://127.0.0.1:" in line for line in gateway.said)
    made = gateway.post("/init_trajectory").json()
    assert made["base_url"].startswith(f"{gateway.url}/")


def test_whole_replies_and_streams(gateway: GatewayProcess) -> None:
    path = init(gateway)["path"]
    assert gateway.post(f"{path}/v1/chat/completions", chat()).json()["choices"]
    url = f"{gateway.url}{path}"
    with gateway.http.post(f"{url}/v1/chat/completions", json=chat(stream=True), stream=True, timeout=60) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == b"data: [DONE]"


def test_bodies_of_many_records(gateway: GatewayProcess) -> None:
    """More than a TLS record and a socket's buffer hold, both ways."""
    text = "x" * 3_000_000
    said = [{"role": "user", "content": text}]
    assert gateway.post(f"{init(gateway)['path']}/v1/chat/completions", {"messages": said}).status_code == 200
    assert gateway.get("/docs/swagger-ui-bundle.js").content[:2]
    steps = [
        {"trajectory_uid": "big", "step_index": n, "prompt_ids": [n] * 5000, "response_ids": [1]} for n in range(60)
    ]
    assert gateway.post("/submit_steps", {"steps": steps}).json()["accepted"] == 60
    assert len(gateway.get("/pool/steps?trajectory_uid=big").json()["steps"]) == 60


def test_the_openai_sdk_with_the_file_of_the_ca(gateway: GatewayProcess, pair: Pair) -> None:
    base = gateway.post("/init_trajectory").json()["openai_base_url"]
    client = OpenAI(base_url=base, api_key="none", http_client=httpx.Client(verify=pair.trusted()), max_retries=0)
    messages: Any = SAID
    assert client.chat.completions.create(model="default", messages=messages).choices[0].finish_reason == "stop"
    frames = list(client.chat.completions.create(model="default", messages=messages, stream=True))
    assert frames[-1].choices[0].finish_reason == "stop"


def test_curl_with_the_file_of_the_ca(gateway: GatewayProcess, pair: Pair) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    words = ["curl", "-sS", "--cacert", str(pair.certificate), f"{gateway.url}/health"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["status"] == "ok", done.stderr


def test_plain_http_and_old_versions_are_refused(gateway: GatewayProcess, pair: Pair) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{gateway.port}/health", timeout=30)
    old = pair.trusted()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(gateway, old)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        new = pair.trusted()
        new.minimum_version = new.maximum_version = version
        with connect(gateway, new) as connection:
            assert connection.version() == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    assert gateway.get("/health").status_code == 200
    assert not any("Traceback" in line for line in gateway.said)


def test_a_name_or_none_gets_the_same_certificate(gateway: GatewayProcess, pair: Pair) -> None:
    seen = set()
    for name in ("localhost", "other.example", None):
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
        with anybody.wrap_socket(plain, server_hostname=name) as connection:
            seen.add(connection.getpeercert(binary_form=True))
    assert seen == {ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())}


def test_a_request_that_is_refused_before_it_came_is_answered(gateway: GatewayProcess, pair: Pair) -> None:
    with connect(gateway, pair.trusted()) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_clients_that_break_off_harm_nobody(gateway: GatewayProcess, pair: Pair) -> None:
    for said in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", os.urandom(300)):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as plain:
            plain.sendall(said)
    leaving = connect(gateway, pair.trusted())
    leaving.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    leaving.close()
    assert gateway.get("/health").status_code == 200
    assert not any("Traceback" in line for line in gateway.said)


# Other files -------------------------------------------------------------------------------------------------------


def test_new_files_are_taken_while_connections_go_on(tmp_path: Path) -> None:
    first, second = Pair(tmp_path, "first"), Pair(tmp_path, "second")
    with serving(tmp_path, first) as gateway:
        old = first.trusted()
        with connect(gateway, old) as kept:
            frames = gateway.http.post(f"{gateway.url}/v1/chat/completions", json=chat(stream=True), stream=True)
            shutil.copy(second.certificate, first.certificate)
            shutil.copy(second.key, first.key)
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda: any('"tls_reloaded"' in line for line in gateway.said))
            assert frames.content.endswith(b"data: [DONE]\n\n")
            kept.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert kept.recv(100).startswith(b"HTTP/1.1 200 ")
        assert second.session().get(f"{gateway.url}/health", timeout=60).status_code == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(gateway, old)
        first.key.write_text("broken")
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any('"tls_unreadable"' in line for line in gateway.said))
        assert second.session().get(f"{gateway.url}/health", timeout=60).status_code == 200


def test_many_changes_under_load_lose_no_request(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "gate")
    with serving(tmp_path, pair) as gateway:
        over, counts = threading.Event(), []

        def ask() -> None:
            while not over.is_set():
                with pair.session() as client:  # a handshake each
                    counts.append(client.get(f"{gateway.url}/health", timeout=60).status_code)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1, 31):
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: sum('"tls_reloaded"' in line for line in gateway.said) >= number)  # type: ignore[misc]
        over.set()
        for thread in threads:
            thread.join(60)
        assert set(counts) == {200}


def wrong_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    good, other = Pair(folder, "good"), Pair(folder, "other")
    expired = folder / "expired.pem"
    expired.write_text(ssl.DER_cert_to_PEM_cert(_ended_in_2001(ssl.PEM_cert_to_DER_cert(good.certificate.read_text()))))
    junk, empty = folder / "junk", folder / "empty"
    junk.write_bytes(os.urandom(500))
    empty.touch()
    secret = folder / "secret.key"
    words = ["openssl", "pkcs8", "-topk8", "-in", str(good.key), "-passout", "pass:x", "-out", str(secret)]
    subprocess.run(words, check=True, capture_output=True)
    return {
        "tls_mismatch": (good.certificate, other.key),
        "missing certificate tls_unreadable": (folder / "nowhere", good.key),
        "missing key tls_unreadable": (good.certificate, folder / "nowhere"),
        "folder tls_unreadable": (folder, good.key),
        "junk tls_unreadable": (junk, good.key),
        "empty tls_unreadable": (empty, good.key),
        "swapped tls_unreadable": (good.key, good.certificate),
        "passphrase tls_unreadable": (good.certificate, secret),
        "tls_expired": (expired, good.key),
    }


def _ended_in_2001(der: bytes) -> bytes:
    """The same with another end: nothing looks at its signature when it is loaded."""
    _, end = re.findall(rb"\x17\x0d[0-9]{12}Z", der)
    return der.replace(end, b"\x17\x0d010101000000Z")


def test_what_it_does_not_start_with(moor: Moor, tmp_path: Path) -> None:
    """Each exits with 5 and asks for nothing, not even a passphrase on a terminal."""
    for name, (certificate, key) in wrong_files(tmp_path).items():
        code = name.split()[-1]
        words = ("gateway", "--port", "0", "--upstream", "http://127.0.0.1:1", "--db", f"sqlite:///{tmp_path / 'x.db'}")
        flags = ("--tls-cert", certificate, "--tls-key", key, "--json")
        answer = moor(*words, *flags)
        assert (answer.rc, answer.out["error"]["code"]) == (5, code), name


def test_one_file_alone_is_a_wrong_command_line(moor: Moor, tmp_path: Path) -> None:
    words = ("gateway", "--port", "0", "--upstream", "http://127.0.0.1:1", "--db", f"sqlite:///{tmp_path / 'x.db'}")
    assert moor(*words, "--tls-cert", "x.pem", "--json").rc == 2
    assert moor(*words, "--tls-key", "x.key", "--json").rc == 2


def test_a_key_that_everybody_may_read_is_warned_of(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "gate", days=3)
    pair.key.chmod(0o644)
    with serving(tmp_path, pair) as gateway:
        assert any('"tls_key_open"' in line for line in gateway.said)
        assert any('"tls_expires_soon"' in line for line in gateway.said)


def test_every_worker_takes_the_new_files(tmp_path: Path) -> None:
    first, second = Pair(tmp_path, "first"), Pair(tmp_path, "second")
    with serving(tmp_path, first, "--workers", "2") as gateway:
        shutil.copy(second.certificate, first.certificate)
        shutil.copy(second.key, first.key)
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: sum('"tls_reloaded"' in line for line in gateway.said) == 2)
        for _ in range(8):
            assert second.session().get(f"{gateway.url}/health", timeout=60).status_code == 200
        assert gateway.stop() == 0
