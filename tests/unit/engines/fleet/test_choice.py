"""Which endpoint is chosen, over made-up fleets."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.fleet.choice import for_request, for_session


class One(NamedTuple):
    """An endpoint as the choice sees it."""

    url: str
    takes_new: bool = True
    keeps_old: bool = True
    load: float = 0.0
    sessions: int = 0
    models: frozenset[str] = frozenset()


def test_new_sessions_spread_evenly() -> None:
    fleet = [One("a"), One("b"), One("c", takes_new=False)]
    for _ in range(9):
        chosen = for_session(fleet, None)
        assert chosen is not None
        fleet[fleet.index(chosen)] = chosen._replace(sessions=chosen.sessions + 1)
    assert [one.sessions for one in fleet] == [5, 4, 0]


def test_requests_go_to_the_least_loaded() -> None:
    fleet = [One("a", load=0.5), One("b", load=0.25, sessions=9), One("c", load=0.0, takes_new=False)]
    assert for_request(fleet, None) == fleet[1]


def test_a_session_stays_at_home_however_busy() -> None:
    fleet = [One("a", load=0.9), One("b")]
    assert for_request(fleet, None, home="a") == fleet[0]
    retired = [One("a", takes_new=False), One("b")]
    assert for_request(retired, None, home="a") == retired[0]


def test_a_session_leaves_a_home_that_is_out_unless_it_is_pinned() -> None:
    fleet = [One("a", takes_new=False, keeps_old=False), One("b")]
    assert for_request(fleet, None, home="a") == fleet[1]
    assert for_request(fleet, None, home="a", pinned=True) is None


def test_a_failed_one_is_tried_again_only_when_there_is_no_other() -> None:
    fleet = [One("a"), One("b", load=0.9)]
    assert for_request(fleet, None, home="a", failed=["a"]) == fleet[1]
    assert for_request(fleet, None, failed=["a", "b"]) == fleet[0]
    assert for_request(fleet[:1], None, home="a", failed=["a"]) == fleet[0]
    assert for_request(fleet, None, home="a", pinned=True, failed=["a"]) == fleet[0]


def test_by_model() -> None:
    fleet = [One("a", models=frozenset({"x"})), One("b", models=frozenset({"y"}), load=0.5), One("c", load=0.9)]
    assert for_request(fleet, "y") == fleet[1]
    assert for_request(fleet, "z") == fleet[2]  # it has not said what it serves
    assert for_request(fleet[:2], "z") is None
    assert for_session(fleet[:2], "z") is None


ONES = st.lists(
    st.builds(
        One,
        url=st.sampled_from("abcdef"),
        takes_new=st.booleans(),
        keeps_old=st.just(True),
        load=st.floats(0, 2),
        sessions=st.integers(0, 5),
        models=st.frozensets(st.sampled_from("xyz")),
    ),
    unique_by=lambda one: one.url,
)


@given(ONES, st.sampled_from([None, "x", "y"]), st.lists(st.sampled_from("abcdef")))
def test_whoever_fits_and_is_usable_is_found(fleet: list[One], model: str | None, failed: list[str]) -> None:
    chosen = for_request(fleet, model, failed=failed)
    fitting = [one for one in fleet if one.takes_new and (model is None or not one.models or model in one.models)]
    if chosen is None:
        assert not fitting
        return
    assert chosen in fitting
    assert chosen.url not in failed or all(one.url in failed for one in fitting)
    rivals = [one for one in fitting if one.url not in failed] or fitting
    assert chosen.load == min(one.load for one in rivals)
