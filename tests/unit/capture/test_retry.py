"""A retry and a new sample: told apart by the client's word alone."""

from __future__ import annotations

import pytest

from moorage.capture.retry import Evidence, begin, choose, retry_evidence, retry_key

ONE, TWO, NONE = (retry_key("chat", b"{}", Evidence(token, False)).idempotency_digest for token in ("1", "2", ""))


def key(token: str = "", counted: bool = False):
    return retry_key("chat", b"{}", Evidence(token, counted))


@pytest.mark.parametrize(
    ("idempotency_key", "count", "expected"),
    [
        (None, None, Evidence("", False)),
        ("", "", Evidence("", False)),
        ("abc", None, Evidence("abc", False)),
        (" abc ", "0", Evidence("abc", False)),
        (None, "1", Evidence("", True)),
        (None, " 2 ", Evidence("", True)),
        (None, "-1", Evidence("", False)),
        (None, "1.5", Evidence("", False)),
        (None, "one", Evidence("", False)),
        (None, "²", Evidence("", False)),
        (None, "9" * 10_000, Evidence("", True)),
    ],
)
def test_evidence(idempotency_key, count, expected):
    assert retry_evidence(idempotency_key, count) == expected


def test_path_and_body_are_what_two_requests_have_in_common():
    no = Evidence("", False)
    assert retry_key("chat", b"{}", no).content == retry_key("chat", b"{}", Evidence("1", True)).content
    assert retry_key("chat", b"{}", no).content != retry_key("chat", b"{ }", no).content
    assert retry_key("chat", b"{}", no).content != retry_key("completions", b"{}", no).content
    assert retry_key("cha", b"t{}", no).content != retry_key("chat", b"{}", no).content


def test_a_body_is_taken_in_parts():
    begun = begin("chat").plus(b"{")
    whole = retry_key("chat", b"{}", Evidence("1", True)).content
    assert begun.plus(b"}").digest() == begun.plus(b"").plus(b"}").digest() == whole


@pytest.mark.parametrize(
    ("request_key", "in_flight", "finished", "expected"),
    [
        pytest.param(key(), [], [], ("ask", -1), id="nothing before"),
        pytest.param(key("1", True), [], [], ("ask", -1), id="its first try failed"),
        pytest.param(key(), [NONE], [NONE, ONE], ("ask", -1), id="no evidence: another sample"),
        pytest.param(key("1"), [NONE, TWO], [NONE, TWO], ("ask", -1), id="a key of its own"),
        pytest.param(key("1"), [], [ONE], ("replay", 0), id="the same key, finished"),
        pytest.param(key("1"), [ONE], [], ("wait", 0), id="the same key, in flight"),
        pytest.param(key(counted=True), [NONE], [NONE], ("wait", 0), id="counted: the one in flight"),
        pytest.param(key(counted=True), [], [NONE, NONE], ("replay", 1), id="counted: the last one finished"),
        pytest.param(key("1", True), [NONE], [ONE, NONE], ("replay", 0), id="the same key before any other"),
        pytest.param(key("1", True), [NONE], [TWO], ("wait", 0), id="counted, whatever key the first try had"),
    ],
)
def test_what_to_do(request_key, in_flight, finished, expected):
    assert choose(request_key, in_flight, finished) == expected
