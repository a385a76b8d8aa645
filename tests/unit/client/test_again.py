"""When a request is sent again: pure."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.client.http.again import may_pass, pause_before, retry_after_of

Trouble = Literal["unconnected", "broken", "passing"]


@given(
    trouble=st.sampled_from(("unconnected", "broken", "passing")),
    repeatable=st.booleans(),
    patience_s=st.floats(0, 100),
    retry_after_s=st.one_of(st.none(), st.floats(0, 50)),
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=300),
)
def test_it_ends_within_patience(
    trouble: Trouble, repeatable: bool, patience_s: float, retry_after_s: float | None, chances: list[float]
) -> None:
    waited_s = 0.0
    for attempts, chance in enumerate(chances, 1):
        pause = pause_before(
            trouble,
            repeatable=repeatable,
            attempts=attempts,
            waited_s=waited_s,
            patience_s=patience_s,
            retry_after_s=retry_after_s,
            chance=chance,
        )
        if pause is None:
            break
        assert trouble == "unconnected" or repeatable
        assert pause >= max(0.05, retry_after_s or 0)
        waited_s += pause
        assert waited_s <= patience_s


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        (503, "no_healthy_upstream", True),
        (429, "paused", True),
        (408, "request_timeout", True),
        (502, "short_logprobs", False),
        (502, "http_502", True),
        (504, "upstream_silent", False),
        (500, "internal", False),
        (400, "body_wrong", False),
        (409, "lease_lost", False),
    ],
)
def test_what_may_pass(status: int, code: str, passes: bool) -> None:
    assert may_pass(status, code) is passes


@pytest.mark.parametrize(("status", "passes"), [(500, True), (409, False), (502, False)])
def test_a_server_that_failed_may_say_that_it_passes(status: int, passes: bool) -> None:
    assert may_pass(status, "store_failed", retry_after_s=0.0) is passes


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("5", 5.0), (" 7 ", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_of(header) == seconds
