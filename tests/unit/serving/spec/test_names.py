"""Names that users may have, and those that the platform gives."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.spec.names import MODEL_KEY, dated_name, model_alias, new_model_key, valid_suffix, valid_user_id

NOW = datetime(2026, 1, 6, 12, 30, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "user_id", ["a", "alice", "a-b_c9", "a" * 32, "a-12345678901", "a12345678901234", "a_123456789012"]
)
def test_these_are_users(user_id: str) -> None:
    assert valid_user_id(user_id)


@pytest.mark.parametrize(
    "user_id",
    [
        "",
        "A",
        "9a",
        "-a",
        "_a",
        "a" * 33,
        "a.b",
        "a b",
        "a/b",
        "a\n",
        "ä",
        "a\u0661",
        "..",
        "a-202601061235",
        "a-2026010612351-b",
    ],
)
def test_these_are_none(user_id: str) -> None:
    assert not valid_user_id(user_id)


@pytest.mark.parametrize("suffix", ["a", "7", "Qwen2.5-0.5B_x", "a" * 63, "202601061235-m"])
def test_these_are_suffixes(suffix: str) -> None:
    assert valid_suffix(suffix)


@pytest.mark.parametrize(
    "suffix",
    [
        "",
        "-a",
        ".a",
        "_a",
        "a" * 64,
        "a/b",
        "a b",
        "a\n",
        "\u00e9",
        "\u0430",
        "\uff41",
        "\U0001f600",
        "a\u200b",
        "a\x00",
    ],
)
def test_these_are_no_suffixes(suffix: str) -> None:
    assert not valid_suffix(suffix)


def test_the_dated_name_has_the_minute_in_utc() -> None:
    assert dated_name("alice", "qwen-0.5b", NOW) == "alice-202601061230-qwen-0.5b"
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-9)))
    assert dated_name("alice", "m", elsewhere) == "alice-202601061230-m"
    assert model_alias("alice", "m") == "alice/m"


def test_keys_have_their_form_and_differ() -> None:
    chance = random.Random(7)
    keys = {new_model_key("alice-b", NOW, chance) for _ in range(1000)}
    assert len(keys) == 1000
    assert all(MODEL_KEY.fullmatch(key) and key.startswith("svc-alice-b-20260106-123059-") for key in keys)


users = st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True).filter(valid_user_id)
suffixes = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)


@given(users, suffixes, users, suffixes, st.integers(0, 3))
def test_two_users_never_share_a_dated_name(one: str, first: str, other: str, second: str, minutes: int) -> None:
    later = NOW + timedelta(minutes=minutes)
    if one != other:
        assert dated_name(one, first, NOW) != dated_name(other, second, later)


@given(st.sampled_from(["a", "a-b", "a-2", "ab"]), st.sampled_from(["a", "a-b", "a-2", "ab"]), st.data())
def test_not_even_when_they_try(one: str, other: str, data: st.DataObject) -> None:
    """A suffix that looks like another user's date."""
    if one == other:
        return
    wanted = dated_name(other, data.draw(suffixes), NOW)
    for cut in range(1, len(wanted)):
        assert dated_name(one, wanted[cut:], NOW) != wanted
