"""What becomes of leased groups, by table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.pool.groups import after_delivery, is_ready, is_stale, may_ack, may_nack, shown_state


@pytest.mark.parametrize(
    ("state", "acks", "nacks"),
    [
        ("out", True, True),
        ("expired", True, True),
        ("nacked", False, True),
        ("acked", True, False),
        ("lost", False, False),
    ],
)
def test_what_each_lease_still_allows(state, acks, nacks):
    assert (may_ack(state), may_nack(state)) == (acks, nacks)


@given(st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_a_delivery_without_ack_is_repeated_until_the_last_one(attempts, most, drop):
    assert after_delivery(attempts, most, drop=drop) == ("dropped" if drop or attempts >= most else "waiting")


@pytest.mark.parametrize(
    ("oldest", "minimum", "stale"),
    [
        (None, None, False),
        (None, 3, False),
        (3, None, False),
        (3, 3, False),
        (2, 3, True),
        (-1, 0, True),
        (4, 3, False),
    ],
)
def test_one_step_of_older_weights_makes_a_group_stale(oldest, minimum, stale):
    assert is_stale(oldest, minimum) is stale


def test_ready_means_enough():
    assert [is_ready(complete, 2) for complete in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("state", "size", "not_before", "shown"),
    [
        ("leased", 1, 0, "leased"),
        ("acked", 1, 0, "acked"),
        ("dropped", 9, 0, "dropped"),
        ("waiting", 2, 0, "ready"),
        ("waiting", 2, 100, "ready"),
        ("waiting", 2, 101, "open"),
        ("waiting", 1, 0, "open"),
    ],
)
def test_how_rounds_are_counted(state, size, not_before, shown):
    assert shown_state(state, size, not_before, now=100, n_rollouts=2) == shown
