"""Which requests a page of somebody else sent, and which addresses need no key."""

from __future__ import annotations

import pytest

from moorage.gateway.auth.origins import foreign_host, foreign_origin
from moorage.gateway.auth.policy import is_loopback, keys_needed


def headers(**fields: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]


@pytest.mark.parametrize(
    ("origin", "host", "ours"),
    [
        ("http://127.0.0.1:8100", "127.0.0.1:8100", True),
        ("http://localhost:8100", "localhost:8100", True),
        ("http://LOCALHOST:8100", "LOCALHOST:8100", True),
        ("http://[::1]:8100", "[::1]:8100", True),
        ("https://localhost", "localhost", True),
        ("http://127.8.9.1:8100", "127.8.9.1:8100", True),
        ("http://localhost:3000", "localhost:8100", False),
        ("http://localhost:8100", "127.0.0.1:8100", False),
        ("http://evil.example", "127.0.0.1:8100", False),
        ("http://evil.example:8100", "evil.example:8100", False),
        ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", "localhost.evil.example", False),
        ("http://0.0.0.0:8100", "0.0.0.0:8100", False),
        ("http://192.0.2.1:8100", "192.0.2.1:8100", False),
        ("null", "127.0.0.1:8100", False),
        ("", "127.0.0.1:8100", False),
        ("file://127.0.0.1:8100", "127.0.0.1:8100", False),
        ("chrome-extension://abc", "127.0.0.1:8100", False),
        ("http://user@localhost:8100", "localhost:8100", False),
    ],
)
def test_whose_page_sends_what_has_an_origin(origin: str, host: str, ours: bool) -> None:
    assert (foreign_origin(headers(host=host, origin=origin), loopback=True) is None) == ours


def test_two_origins_or_hosts_are_not_ours() -> None:
    good, bad = b"http://localhost:1", b"http://evil.example"
    host = (b"host", b"localhost:1")
    assert foreign_origin([host, (b"origin", good), (b"origin", bad)], loopback=True) is not None
    assert foreign_origin([host, (b"host", b"evil.example"), (b"origin", good)], loopback=True) is not None
    assert foreign_origin([(b"origin", good)], loopback=True) is not None


def test_elsewhere_a_page_under_the_same_name_is_ours() -> None:
    assert foreign_origin(headers(host="gate.example", origin="https://gate.example"), loopback=False) is None
    assert foreign_origin(headers(host="gate.example", origin="https://evil.example"), loopback=False) is not None


@pytest.mark.parametrize("mark", ["referer", "accept_language", "sec_fetch_site", "sec_fetch_mode"])
def test_a_browser_that_was_led_here_reads_nothing(mark: str) -> None:
    assert foreign_host(headers(host="evil.example:8100", **{mark: "x"})) is not None
    assert foreign_host(headers(host="localhost:8100", **{mark: "x"})) is None
    assert foreign_host(headers(**{mark: "x"})) is not None


def test_programs_may_call_it_what_they_like() -> None:
    assert foreign_host(headers(host="gate.example", user_agent="curl/8", accept="*/*")) is None


# Addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.0.9", "::1"])
def test_loopback_needs_no_key_unless_asked(address: str) -> None:
    assert is_loopback(address)
    assert [keys_needed(how, address) for how in ("auto", "keys", "none")] == [False, True, False]


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0", "localhost", "127.0.0.1.example", ""]
)
def test_everything_else_does(address: str) -> None:
    assert not is_loopback(address)
    assert [keys_needed(how, address) for how in ("auto", "keys", "none")] == [True, True, False]
