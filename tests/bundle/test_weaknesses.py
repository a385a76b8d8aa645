"""docs/weaknesses.md: no number left out, and every test that it names exists."""

from __future__ import annotations

import re

import pytest

from tests.bundle.checkout import ROOT, codes, table_rows
from tests.bundle.source import names_of_tests

ROWS = table_rows((ROOT / "docs/weaknesses.md").read_text(encoding="utf-8"))
NUMBERS = [*range(1, 43), *range(44, 74)]


def test_every_weakness_has_its_row() -> None:
    assert [int(row[0]) for row in ROWS] == NUMBERS


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_is_said_is_shown_by_tests_that_exist(row: list[str]) -> None:
    _, weakness, answer, shown_by = row
    assert weakness.endswith(".")
    assert answer.endswith(".")
    named = codes(shown_by)
    assert named, "no test shows it"
    for name in named:
        file, _, test = name.partition("::")
        assert re.fullmatch(r"tests/[\w/]+\.py", file), name
        assert test in names_of_tests(ROOT / file), name
