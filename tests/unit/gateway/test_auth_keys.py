"""What keys look like, how one is found in a request, and that a wrong digit is told from a wrong key."""

from __future__ import annotations

import hashlib
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.gateway.auth.credentials import key_shown
from moorage.gateway.auth.key_text import KEY_ID, digest_of, make_key, mistyped, new_key_id, read_key
from moorage.gateway.http.faults import Fault

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(("role", "name"), [("admin", "0123456789ab"), ("trainer", "ba9876543210"), ("session", UID)])
def test_a_key_tells_its_role_and_name_and_hides_the_rest(role: str, name: str) -> None:
    key = make_key(role, name, os.urandom)  # type: ignore[arg-type]
    assert re.fullmatch(rf"moor_{role}_{name}_[0-9a-f]{{56}}", key)
    assert read_key(key.encode()) == (role, name)
    assert digest_of(key.encode()) == hashlib.sha256(key.encode()).digest()
    assert make_key(role, name, os.urandom) != key  # type: ignore[arg-type]


def test_ids_are_twelve_digits() -> None:
    assert KEY_ID.fullmatch(new_key_id(os.urandom))


@given(st.binary(min_size=24, max_size=24), st.integers(0, 200), st.sampled_from("0123456789abcdefX _-"))
def test_every_changed_digit_is_found(secret: bytes, at: int, digit: str) -> None:
    key = make_key("trainer", "0123456789ab", lambda _: secret)
    at %= len(key)
    changed = (key[:at] + digit + key[at + 1 :]).encode()
    assert (read_key(changed) is None) == (changed != key.encode())


@given(st.binary(max_size=200))
def test_nothing_else_is_a_key(text: bytes) -> None:
    assert read_key(text) is None


@pytest.mark.parametrize("cut", [1, 8, 20, 56, 57])
def test_a_key_that_was_cut_off_is_mistyped(cut: int) -> None:
    key = make_key("admin", "0123456789ab", os.urandom).encode()
    assert mistyped(key[:-cut])
    assert not mistyped(key)


def test_a_foreign_key_is_not_called_mistyped() -> None:
    assert not mistyped(b"sk-proj-0123456789")


# In a request ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([(b"authorization", b"Bearer K")], b"K"),
        ([(b"authorization", b"bearer K")], b"K"),
        ([(b"authorization", b"BEARER   K ")], b"K"),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"Bearer")], None),
        ([(b"authorization", b"K")], None),
        ([(b"authorization", b"Basic dTpw")], None),
        ([(b"authorization", b"Basic dTpw"), (b"x-api-key", b"K")], b"K"),
        ([(b"x-api-key", b" K ")], b"K"),
        ([(b"x-api-key", b"")], None),
        ([(b"authorization", b"Bearer K"), (b"x-api-key", b"K")], b"K"),
        ([(b"authorization", b"Bearer K"), (b"authorization", b"Bearer K")], b"K"),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b"K")], b"K"),
        ([(b"cookie", b"key=K"), (b"x-forwarded-for", b"127.0.0.1"), (b"host", b"localhost")], None),
    ],
)
def test_where_a_key_stands(headers: list[tuple[bytes, bytes]], key: bytes | None) -> None:
    assert key_shown(headers) == key


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer K"), (b"authorization", b"Bearer L")],
        [(b"authorization", b"Bearer K"), (b"x-api-key", b"L")],
        [(b"x-api-key", b"K"), (b"x-api-key", b"L")],
    ],
)
def test_two_different_keys_are_none(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Fault) as refused:
        key_shown(headers)
    assert (refused.value.status, refused.value.code) == (401, "key_wrong")
    assert refused.value.challenge is not None
