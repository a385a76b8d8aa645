"""Words into arguments: durations, names that are nearly right, and what stands after `--`."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.cli.parser import Parser, duration_s, nearest, one_of, positive_duration_s, split_extra, target_of
from moorage.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1.5", 1.5), ("10s", 10), ("5m", 300), ("2h", 7200), ("0.5h", 1800), (" 7 ", 7)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "1d", "1e3", "1_000", "nan", "inf", "1 s", "1s2", ".5", "٣", "9" * 400]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration_s(text)


@given(st.text(max_size=8))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert duration_s(text) >= 0
    except argparse.ArgumentTypeError as fault:
        assert repr(text) in str(fault)


def test_nothing_is_no_duration_above_zero() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        positive_duration_s("0s")


@given(before=st.lists(st.text().filter(lambda word: word != "--")), after=st.none() | st.lists(st.text()))
def test_the_first_double_dash_divides(before: list[str], after: list[str] | None) -> None:
    words = before if after is None else [*before, "--", *after]
    assert split_extra(words) == (before, after or [])


def test_names_that_are_nearly_right() -> None:
    assert nearest("strat", ["start", "stop"]) == "did you mean start?"
    assert nearest("xyz", ["start", "stop"]) == ""
    assert one_of("--pull", "never", ("always", "never")) == "never"
    with pytest.raises(UsageError, match="always, never") as caught:
        one_of("--pull", "newer", ("always", "never"))
    assert caught.value.hint == "did you mean never?"


def parser() -> Parser:
    made = Parser("start", "Start.")
    made.add_argument("--network-arch", required=True)
    made.add_argument("--prompt")
    return made


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--network-arhc", "x"], "unknown argument '--network-arhc'", "did you mean --network-arch?"),
        (["--network-arhc=x"], "unknown argument '--network-arhc=x'", "did you mean --network-arch?"),
        (["--network-arch", "x", "--promt=y"], "unknown argument '--promt=y'", "did you mean --prompt?"),
        (["--network", "x"], "unknown argument '--network'", "did you mean --network-arch?"),
        (["--network-arch", "x", "y"], "unknown argument 'y'", "moor start --help"),
        ([], "the following arguments are required: --network-arch", "moor start --help"),
        (["--prompt", "-x"], "argument --prompt: expected one argument", "--flag=-value"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_with_it(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser().parse(words)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_two_ids() -> None:
    given_ids = argparse.Namespace(positional_id="a", job_id="a", network_arch=None)
    assert target_of(given_ids) == {"job_id": "a", "network_arch": None}
    given_ids.job_id = "b"
    with pytest.raises(UsageError):
        target_of(given_ids)
