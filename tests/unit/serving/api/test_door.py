"""Who comes in, and who does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import PreflightError
from moorage.serving.api.door import Door, check_admin_token
from moorage.serving.api.problems import Problem

ADMIN, GATEWAY, ALICES = "admin-token-of-a-test", "gateway-token-of-a-test", "alices-token"
DOOR = Door(ADMIN, GATEWAY, {ALICES: "alice"}.get)


def enter(*values: bytes) -> str | None:
    caller = DOOR.enter([(b"host", b"a"), *((b"authorization", value) for value in values)])
    return caller.user_id or caller.role


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  ", b"  bEaReR "])
def test_the_scheme_may_be_written_in_any_case(scheme: bytes) -> None:
    assert enter(scheme + ADMIN.encode()) == "admin"
    assert enter(scheme + GATEWAY.encode()) == "gateway"
    assert enter(scheme + ALICES.encode()) == "alice"


def test_the_same_token_twice_is_one() -> None:
    assert enter(b"Bearer " + ALICES.encode(), b"Bearer " + ALICES.encode()) == "alice"


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_whatever_else_is_shown_is_told_the_same(values: list[bytes]) -> None:
    with pytest.raises(Problem) as caught:
        enter(*values)
    with pytest.raises(Problem) as plain:
        enter()
    problem = caught.value
    assert (problem.status, problem.code, problem.detail) == (401, "not_authenticated", plain.value.detail)
    assert problem.headers == {"WWW-Authenticate": "Bearer"}


def test_a_caller_is_shown_without_the_token() -> None:
    assert ALICES not in repr(DOOR.known(ALICES))


@pytest.mark.parametrize("value", [None, "", "a" * 15, "a" * 15 + " ", "a" * 16 + "\n", "ü" * 16, "a" * 1025])
def test_a_token_of_an_administrator_has_to_be_long(value: str | None) -> None:
    with pytest.raises(PreflightError) as caught:
        check_admin_token("VAR", value)
    assert "VAR" in caught.value.message
    assert not value or value not in caught.value.message
    assert check_admin_token("VAR", "a" * 16) == "a" * 16
