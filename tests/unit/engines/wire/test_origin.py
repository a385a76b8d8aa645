"""Upstream URLs, parsed and never guessed at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.wire.origin import Origin
from moorage.errors import UsageError


@pytest.mark.parametrize(
    ("url", "means", "authority"),
    [
        ("http://127.0.0.1:8000", Origin("http", "127.0.0.1", 8000, ""), "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", Origin("http", "127.0.0.1", 8000, ""), "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", Origin("http", "127.0.0.1", 8000, ""), "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", Origin("http", "127.0.0.1", 8000, ""), "127.0.0.1:8000"),
        ("http://v1.gpu.local/v1", Origin("http", "v1.gpu.local", 80, ""), "v1.gpu.local"),
        ("https://host/tiny/v1", Origin("https", "host", 443, "/tiny"), "host"),
        ("http://host/v1/tiny", Origin("http", "host", 80, "/v1/tiny"), "host"),
        ("HTTP://Host:80/a//b/v1", Origin("http", "host", 80, "/a/b"), "host"),
        ("http://[::1]:9000/v1", Origin("http", "::1", 9000, ""), "[::1]:9000"),
        ("http://host/my-v1", Origin("http", "host", 80, "/my-v1"), "host"),
    ],
)
def test_what_a_url_means(url: str, means: Origin, authority: str) -> None:
    origin = Origin.parse(url)
    assert (origin, origin.authority) == (means, authority)
    assert Origin.parse(origin.url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http:///v1",
        "http://host:99999",
        "http://host:x",
        "http://host/a b",
        "http://host/v1?key=1",
        "http://host/v1#x",
        "http://ho st/",
        "http://host/\r\nx: y",
        "http://[::1/v1",
    ],
)
def test_what_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Origin.parse(url)
    assert caught.value.code == "bad_upstream_url"


def test_a_password_is_refused_and_never_shown() -> None:
    with pytest.raises(UsageError) as caught:
        Origin.parse("http://user:canary-secret@host:80/v1?key=canary-secret")
    assert "canary-secret" not in f"{caught.value.message} {caught.value.hint}"
    with pytest.raises(UsageError) as caught:
        Origin.parse("canary-secret@host")
    assert "host" not in caught.value.hint


@given(st.text())
def test_any_text_is_an_origin_or_refused(text: str) -> None:
    try:
        origin = Origin.parse(text)
    except UsageError:
        return
    assert Origin.parse(origin.url) == origin
