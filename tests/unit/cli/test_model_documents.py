"""A file of specs: where one document ends, and the line of a fault."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from moorage.cli.models.documents import placed_faults, split

TWO = b"""# two models
---
model_id: a
model_source: org/a
---
model_id: b
engine_kwargs:
  bogus: 1
"""


def test_one_document_is_sent_as_it_is() -> None:
    for content in (
        b"",
        b"---\nmodel_id: a\n",
        b"# c\n---\na: 1\n---\n# nothing\n...\n",
        b'{"model_id": "a"}',
        b"\xff\xfe",
    ):
        [document] = split(content, "f")
        assert (document.content, document.first_line, document.name) == (content, 1, "f")


def test_several() -> None:
    first, second = split(TWO, "f.yaml")
    assert (first.name, first.first_line) == ("f.yaml (document 1)", 2)
    assert yaml.safe_load(second.content) == {"model_id": "b", "engine_kwargs": {"bogus": 1}}


def test_lines_of_faults() -> None:
    _, second = split(TWO, "f.yaml")
    told = placed_faults(
        second,
        "f.yaml",
        [
            {"pointer": "/engine_kwargs/bogus", "detail": "unknown", "code": "unknown_kwarg", "hint": "h"},
            {"pointer": "/model_source", "detail": "missing", "code": "missing_field"},
            {"pointer": "", "detail": "whole"},
        ],
    )
    assert [one["line"] for one in told] == [8, 5, 5]
    assert told[0] == {
        "file": "f.yaml",
        "line": 8,
        "pointer": "/engine_kwargs/bogus",
        "message": "unknown",
        "hint": "h",
        "code": "unknown_kwarg",
    }


def test_a_mark_within_a_value_is_none() -> None:
    content = b"a: |\n  x\n  ---\n  y\nb: '--- c'\n"
    assert len(split(content, "f")) == 1


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(VALUE, min_size=2, max_size=4), st.booleans(), st.sampled_from([None, "'", '"', "|"]))
def test_the_pieces_are_the_documents(values: list[object], ends: bool, style: str | None) -> None:
    """As PyYAML sees them; none of them is lost, whatever stands in a value."""
    content = yaml.safe_dump_all(
        values, explicit_start=True, explicit_end=ends, default_style=style, allow_unicode=True
    ).encode()
    pieces = split(content, "f")
    assert [yaml.safe_load(piece.content) for piece in pieces] == list(yaml.safe_load_all(content))


@given(st.binary(max_size=200))
def test_whatever_comes_nothing_is_lost(content: bytes) -> None:
    pieces = split(content, "f")
    assert pieces
    joined = b"".join(piece.content for piece in pieces)
    assert joined == content or len(pieces) > 1
    for piece in pieces:
        placed_faults(piece, "f", [{"pointer": "/a/0/b", "detail": "d"}])
