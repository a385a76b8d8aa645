"""How often a wrong key may be shown: by address, for ever in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moorage.gateway.auth.failures import ADDRESSES, BURST, PER_S, Failures


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_many_failures_are_told_to_wait_and_others_are_not() -> None:
    clock = Clock()
    failures = Failures(clock)
    assert [failures.wait_s("192.0.2.1") for _ in range(int(BURST))] == [0] * int(BURST)
    assert not failures.spent("192.0.2.2")
    assert failures.spent("192.0.2.1")
    assert failures.wait_s("192.0.2.1") == 2
    assert failures.wait_s("192.0.2.2") == 0
    clock.now += 2
    assert failures.wait_s("192.0.2.1") == 0
    assert failures.wait_s("192.0.2.1") > 0


@given(st.lists(st.floats(0, 100), max_size=200))
def test_no_more_are_told_than_burst_and_rate_allow(pauses: list[float]) -> None:
    clock = Clock()
    failures = Failures(clock)
    told = 0
    for pause in pauses:
        clock.now += pause
        told += failures.wait_s("192.0.2.1") == 0
        assert told <= BURST + clock.now * PER_S + 1e-6


@given(st.lists(st.floats(0, 10), min_size=40, max_size=80))
def test_who_waits_as_long_as_told_is_answered(pauses: list[float]) -> None:
    clock = Clock()
    failures = Failures(clock)
    for pause in pauses:
        clock.now += pause
        wait_s = failures.wait_s("192.0.2.1")
        if wait_s:
            clock.now += wait_s
            assert failures.wait_s("192.0.2.1") == 0


def test_addresses_are_forgotten_when_there_are_too_many() -> None:
    failures = Failures(Clock())
    for number in range(ADDRESSES + 500):
        failures.wait_s(f"198.51.{number >> 8}.{number & 255}")
    assert len(failures) == ADDRESSES


def test_a_network_of_ipv6_is_one_address() -> None:
    failures = Failures(Clock())
    for number in range(int(BURST)):
        assert failures.wait_s(f"2001:db8:1:2::{number:x}") == 0
    assert failures.spent("2001:db8:1:2:ffff::1%eth0")
    assert not failures.spent("2001:db8:1:3::1")
    assert failures.wait_s("::ffff:192.0.2.7") == 0
    assert len(failures) == 2


def test_an_address_that_is_none_counts_too() -> None:
    failures = Failures(Clock())
    assert [failures.wait_s("") > 0 for _ in range(int(BURST) + 1)] == [False] * int(BURST) + [True]
