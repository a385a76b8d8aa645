"""Heads of requests: nothing that a caller gives can begin another header or request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.wire.request import first_lines, head_of
from moorage.errors import UsageError

LINES = first_lines("POST", "/v1/x", "host:80", [(b"authorization", b"Bearer k")])


def test_a_head() -> None:
    head = head_of(LINES, [(b"content-type", b"application/json"), (b"x-a", b"1")])
    assert head == (
        b"POST /v1/x HTTP/1.1\r\nhost: host:80\r\nauthorization: Bearer k\r\n"
        b"content-type: application/json\r\nx-a: 1\r\n"
    )


def test_what_is_ours_is_not_the_callers() -> None:
    names = (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"accept-encoding")
    assert head_of(LINES, [(name, b"x") for name in names]) == head_of(LINES, [])


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=20))
def test_a_header_is_one_line_or_refused(value: bytes, name: bytes) -> None:
    try:
        head = head_of(LINES, [(name.lower(), value)])
    except UsageError as fault:
        assert fault.code == "bad_header"
        assert b"\n" in value + name or b"\r" in value + name
        return
    assert len(head.split(b"\r\n")) - len(head_of(LINES, []).split(b"\r\n")) in (0, 1)


@pytest.mark.parametrize("target", ["", "v1", "/a b", "/a\r\nx: y", "/ä", "http://else/"])
def test_a_target_is_a_path(target: str) -> None:
    with pytest.raises(UsageError):
        first_lines("POST", target, "host", [])


@pytest.mark.parametrize("method", ["", "post", "HEAD", "POST /x HTTP/1.1\r\n"])
def test_a_method_is_a_known_one(method: str) -> None:
    with pytest.raises(UsageError):
        first_lines(method, "/", "host", [])
