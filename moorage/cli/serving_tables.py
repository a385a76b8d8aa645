"""The catalogue of reasons, as it stands in docs/serving.md."""

from __future__ import annotations

from moorage.cli.written_section import WrittenSection
from moorage.serving.reasons import ACTIONS

__all__ = ["REASONS"]


def reasons_table() -> str:
    """Every reason and what to do, as Markdown."""
    rows = [f"| `{reason.value}` | {ACTIONS[reason]} |" for reason in ACTIONS]
    return "\n".join(["| Reason | What to do |", "| --- | --- |", *rows])


REASONS = WrittenSection(
    document="docs/serving.md",
    begin="<!-- reasons -->",
    end="<!-- /reasons -->",
    what="the table of reasons",
    make=reasons_table,
)
