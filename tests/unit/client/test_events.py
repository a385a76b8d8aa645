"""Server-sent events, however their lines come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moorage.client.http.events import EventReader, Frame

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from(("step", "ack")), TEXT), max_size=10))
def test_what_is_written_is_read(events: list[tuple[int, str, str]]) -> None:
    reader = EventReader()
    found = []
    for number, kind, data in events:
        for line in (": a comment", f"id: {number}", f"event: {kind}", f"data: {data}", "unknown: x", "retry"):
            assert reader.feed(line) is None
        found.append(reader.feed(""))
    assert found == [Frame(str(number), kind, data) for number, kind, data in events]
    assert reader.last_id == (str(events[-1][0]) if events else "")


def test_a_half_event_is_dropped() -> None:
    reader = EventReader()
    for line in ("id: 1", "data: one", ""):
        reader.feed(line)
    for line in ("id: 2", "data: two"):
        reader.feed(line)
    reader.begin_again()
    assert reader.last_id == "1"  # the second one is asked for again
    assert reader.feed("") is None


def test_lines_of_data_are_joined() -> None:
    reader = EventReader()
    for line in ("data: a", "data:b", "data"):
        reader.feed(line)
    assert reader.feed("") == Frame("", "message", "a\nb\n")
