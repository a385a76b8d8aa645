"""When an endpoint is out, and when it is back."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.fleet.health import Health, Seen, after, health_target

SEEN: list[Seen] = ["answered", "probe_ok", "probe_failed", "probe_refused", "connect_refused", "broken"]


def seen(*events: Seen) -> Health:
    return reduce(lambda health, event: after(health, event, f"because {event}"), events, Health())


@pytest.mark.parametrize(
    ("events", "healthy"),
    [
        ([], True),
        (["answered"], True),
        (["broken"], True),
        (["broken"] * 9, True),
        (["connect_refused"], False),
        (["probe_refused"], False),
        (["probe_failed"] * 2, True),
        (["probe_failed"] * 3, False),
        (["probe_failed", "probe_failed", "probe_ok", "probe_failed"], True),
        (["probe_failed", "probe_failed", "answered", "probe_failed"], False),
        (["connect_refused", "answered"], False),
        (["connect_refused", "broken", "probe_failed"], False),
        (["connect_refused", "probe_ok"], True),
    ],
)
def test_what_takes_it_out_and_what_brings_it_back(events: list[Seen], healthy: bool) -> None:
    health = seen(*events)
    assert health.healthy is healthy
    assert (health.reason is None) is healthy


@given(st.lists(st.sampled_from(SEEN)))
def test_one_good_probe_always_brings_it_back(events: list[Seen]) -> None:
    assert after(seen(*events), "probe_ok") == Health()


@given(st.lists(st.sampled_from(["answered", "broken"])))
def test_replies_and_broken_connections_alone_never_take_it_out(events: list[Seen]) -> None:
    assert seen(*events).healthy


def test_a_fault_makes_it_suspect() -> None:
    assert seen("broken").suspect
    assert not seen("broken", "answered").suspect


@pytest.mark.parametrize("kind", ["vllm", "sglang", "trl", "openai"])
def test_no_probe_generates(kind: str) -> None:
    assert health_target(kind) in ("/health", "/health/", "/v1/models")
