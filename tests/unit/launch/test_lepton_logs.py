"""Lines of a log that comes in pieces, over several connections."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from moorage.launch.platforms.lepton.logs import Place


def pieces_of(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return (data[one:other] for one, other in pairwise(places))


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=6), st.lists(st.integers(0, 3000), max_size=4))
def test_each_line_once_wherever_connections_and_pieces_end(data: bytes, ends: list[int], cuts: list[int]) -> None:
    """A connection brings the log from its beginning, up to where it broke."""
    place = Place()
    told: list[str] = []
    for end in [*sorted(end % (len(data) + 1) for end in ends), len(data)]:
        told += place.lines(pieces_of(data[:end], cuts))
    told += place.flush()
    assert told == [line.removesuffix(b"\r").decode("utf-8", "replace") for line in split(data)]


def split(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def test_another_beginning_is_another_log() -> None:
    place = Place("[r0] ")
    assert list(place.lines([b"one\n", b"tw"])) == ["[r0] one"]
    assert list(place.lines([b"o", b"ther\nlog\n"])) == ["[r0] other", "[r0] log"]
    assert list(place.lines([b"other\nlog\nmore\n"])) == ["[r0] more"]
    assert list(place.flush()) == []


def test_a_connection_that_breaks_early_tells_nothing_twice() -> None:
    place = Place()
    assert list(place.lines([b"one\ntwo\n"])) == ["one", "two"]
    assert list(place.lines([b"on"])) == []
    assert list(place.lines([])) == []
    assert list(place.lines([b"one\n", b"two\nthr", b"ee"])) == []
    assert list(place.flush()) == ["three"]
