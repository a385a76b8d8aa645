"""Limits in any minute, by a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.gateway.serving.feed import Quota
from moorage.gateway.serving.rations import Rations
from moorage.gateway.serving.window import GRAIN_S, MANY, WINDOW_S, Window

TICKS = st.lists(st.integers(0, 40_000), min_size=1, max_size=60)
"""1024ths of a second between requests."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(TICKS, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_in_no_minute_are_more_let_in_and_none_is_refused_for_nothing(ticks: list[int], limit: int) -> None:
    clock = Clock()
    rations, let_in = Rations(clock), []
    rations.quota = Quota(requests_per_minute=limit)
    for tick in ticks:
        clock.now += tick / 1024  # exact in binary
        in_the_minute = [at for at in let_in if clock.now - at < WINDOW_S]
        refused = rations.begin("alice")
        assert (refused is None) == (len(in_the_minute) < limit)
        if refused is None:
            let_in.append(clock.now)
            continue
        # Retry-After is right: then it is let in, and a second earlier it would not have been.
        free_at = in_the_minute[-limit] + WINDOW_S
        assert refused.retry_after_s - 1 <= free_at - clock.now <= refused.retry_after_s
    assert all(b - a >= WINDOW_S for a, b in zip(let_in, let_in[limit:], strict=False))


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 300)), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_request_waits_until_less_than_the_limit_of_tokens_is_used(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    rations, used = Rations(clock), []
    rations.quota = Quota(tokens_per_minute=200)
    for tick, tokens in steps:
        clock.now += tick / 1024  # exact in binary
        refused = rations.begin("alice")
        total = sum(many for at, many in used if clock.now - at < WINDOW_S)
        assert (refused is None) == (total < 200)
        if refused is None:
            rations.end("alice", tokens)
            used.append((clock.now, tokens))
        else:
            later = clock.now + refused.retry_after_s
            assert sum(many for at, many in used if later - at < WINDOW_S) < 200


@given(st.lists(st.integers(-1, 2), max_size=60))
@settings(max_examples=100, deadline=None)
def test_requests_at_once(steps: list[int]) -> None:
    rations, under_way = Rations(Clock()), 0
    rations.quota = Quota(concurrent_requests=3)
    for step in steps:
        if step < 0 and under_way:
            rations.end("alice", 0)
            under_way -= 1
        elif step >= 0:
            refused = rations.begin("alice")
            assert (refused is None) == (under_way < 3)
            assert refused is None or refused.retry_after_s == 1
            under_way += refused is None


def test_users_have_limits_of_their_own() -> None:
    rations = Rations(Clock())
    rations.quota = Quota(requests_per_minute=1)
    assert rations.begin("alice") is None
    assert rations.begin("bob") is None
    assert rations.begin("alice") is not None


def test_a_refused_request_counts_nothing() -> None:
    clock = Clock()
    rations = Rations(clock)
    rations.quota = Quota(requests_per_minute=1, concurrent_requests=1)
    assert rations.begin("alice") is None
    clock.now += 30
    refused = rations.begin("alice")
    assert refused is not None
    assert (refused.limit, refused.retry_after_s) == ("requests_per_minute", 30)
    rations.end("alice", 5)
    clock.now += 30
    assert rations.begin("alice") is None


def test_another_limit_counts_from_now_on_with_what_was_used() -> None:
    rations = Rations(Clock())
    rations.quota = Quota(requests_per_minute=5)
    for _ in range(3):
        assert rations.begin("alice") is None
    rations.quota = Quota(requests_per_minute=2)
    refused = rations.begin("alice")
    assert refused is not None
    assert refused.allowed == 2


def test_what_a_dead_worker_had_under_way_is_over() -> None:
    rations = Rations(Clock())
    rations.quota = Quota(concurrent_requests=2)
    assert rations.begin("alice", worker=1) is None
    assert rations.begin("alice", worker=2) is None
    assert rations.begin("alice", worker=2) is not None
    rations.lost(1)
    assert rations.begin("alice", worker=2) is None
    rations.end("alice", 0, worker=1)  # of the dead one: nothing is taken away twice
    assert rations.begin("alice", worker=2) is not None


def test_users_are_forgotten_when_nothing_of_them_counts() -> None:
    clock = Clock()
    rations = Rations(clock)
    rations.quota = Quota(requests_per_minute=5)
    rations.begin("alice")
    rations.begin("bob")
    rations.end("bob", 3)
    clock.now += WINDOW_S
    rations.tidy()
    assert len(rations) == 1
    rations.end("alice", 0)
    rations.tidy()
    assert len(rations) == 0


def test_a_minute_of_very_many_takes_little_memory_and_lets_none_in_early() -> None:
    window, now, times = Window(), 0.0, []
    for _ in range(20_000):
        now += 0.001
        window.use(1, now)
        times.append(now)
    assert window.used(now) == 20_000
    assert len(window._uses) < 2 * MANY
    wait_s = window.wait_s(10_000, now)
    freed_at = times[10_000] + WINDOW_S
    assert 0 <= now + wait_s - freed_at <= GRAIN_S
    assert window.used(now + WINDOW_S + GRAIN_S) == 0


@pytest.mark.parametrize("amount", [0, -3])
def test_nothing_used_is_nothing(amount: int) -> None:
    window = Window()
    window.use(amount, 1.0)
    assert window.used(1.0) == 0
