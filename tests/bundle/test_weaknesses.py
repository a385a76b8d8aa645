"""The pages of weaknesses: no number left out, and every test that they name exists."""

from __future__ import annotations

import re

import pytest

from tests.bundle.checkout import ROOT, codes, table_rows
from tests.bundle.source import names_of_tests

ROWS = table_rows((ROOT / "docs/weaknesses.md").read_text(encoding="utf-8"))
NUMBERS = [str(number) for number in (*range(1, 43), *range(44, 74))]
GATEWAY_ROWS = table_rows((ROOT / "docs/gateway-weaknesses.md").read_text(encoding="utf-8"))
GATEWAY_NUMBERS = [*(f"W{number}" for number in range(1, 41)), *(str(number) for number in range(1, 16))]


def test_every_weakness_has_its_row() -> None:
    assert [row[0] for row in ROWS] == NUMBERS
    assert [row[0] for row in GATEWAY_ROWS] == GATEWAY_NUMBERS


@pytest.mark.parametrize("row", [*ROWS, *GATEWAY_ROWS], ids=[f"{row[0]}: {row[1][:30]}" for row in ROWS + GATEWAY_ROWS])
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
