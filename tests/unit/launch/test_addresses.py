"""Where requests may go, and what a probe makes of whatever answers there."""

from __future__ import annotations

import http.server
import threading
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import ConflictError
from moorage.launch.ports import choose_port
from moorage.launch.probe import base_url, fetch_http

TIMEOUT_S = 5.0


def entry(url, platform="local-process"):
    return {"job_id": "id0", "platform": platform, "host_url": url}


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1:8080/", "http://[::1]:8080"])
def test_addresses_that_moorage_writes_are_used(url):
    assert base_url(entry(url)) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        *(None, 7, "", "localhost:8080", "file:///etc/passwd", "gopher://localhost:8080", "http://"),
        *("http://localhost:8080/admin", "http://localhost:8080?token=x", "http://localhost:8080#x"),
        *("http://user:word@localhost:8080", "http://token@localhost:8080"),
    ],
)
def test_addresses_with_more_than_a_host_and_a_port_are_refused(url):
    with pytest.raises(ConflictError) as caught:
        base_url(entry(url))
    assert (caught.value.code, caught.value.exit_status) == ("bad_host_url", 6)


@pytest.mark.parametrize("host", ["169.254.169.254", "example.com", "localhost.example.com", "0.0.0.0", "127.0.0.2"])
@pytest.mark.parametrize("platform", ["local-process", "local-docker"])
def test_a_service_of_this_machine_is_asked_on_this_machine(host, platform):
    with pytest.raises(ConflictError) as caught:
        base_url(entry(f"http://{host}:8080", platform))
    assert "moor recover" in caught.value.next


@pytest.mark.parametrize("platform", [None, 7, {"local-process": 1}, ["local-process"]])
def test_a_platform_that_is_no_name_is_no_platform_of_this_machine(platform):
    assert base_url(entry("http://localhost:8080", platform)) == "http://localhost:8080"


@given(url=st.text() | st.text(alphabet="localhst127.:/[]@?#%\\ \n").map("http://".__add__))
def test_any_text_is_an_address_of_this_machine_or_refused(url):
    try:
        used = base_url(entry(url))
    except ConflictError as fault:
        assert fault.code == "bad_host_url"
        return
    assert urlsplit(used).hostname in ("localhost", "127.0.0.1", "::1")


@pytest.mark.parametrize("platform", ["local-process", "local-docker", "slurm", "brev"])
def test_a_port_is_held_by_an_entry_of_any_platform(platform):
    """A tunnel's local port and a published port are ports of one machine."""
    held = [{"platform": platform, "host_port": 8080}]
    assert choose_port(held, first=8080, last=8199, is_free=lambda _port: True) == 8081


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/page")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"{")
            self.close_connection = True
        elif self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"zz\r\nno length\r\n")
            self.close_connection = True
        elif self.path == "/silent":
            self.server.asked.set()
            self.server.over.wait(60)
        elif self.path == "/page":
            self.server.asked.set()
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    def log_message(self, *_words):
        """Nothing."""


@pytest.fixture
def odd():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.daemon_threads = True
    server.asked, server.over = threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def url_of(server, path):
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


@pytest.mark.parametrize("path", ["/cut", "/chunks"])
def test_an_answer_that_breaks_off_is_no_answer(odd, path):
    assert fetch_http(url_of(odd, path), TIMEOUT_S) is None


def test_an_answer_that_does_not_come_is_no_answer(odd):
    assert fetch_http(url_of(odd, "/silent"), 0.2) is None
    assert odd.asked.wait(TIMEOUT_S)


def test_nobody_there_is_no_answer(odd):
    url = url_of(odd, "/page")
    odd.shutdown()
    odd.server_close()
    assert fetch_http(url, TIMEOUT_S) is None


def test_a_redirect_is_an_answer_and_not_followed(odd):
    answer = fetch_http(url_of(odd, "/redirect"), TIMEOUT_S)
    assert answer.status == 302
    assert not odd.asked.is_set()


def test_proxy_settings_are_not_followed(odd, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch_http(url_of(odd, "/page"), TIMEOUT_S).status == 200
