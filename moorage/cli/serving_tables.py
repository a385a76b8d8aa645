"""The catalogue of reasons, as it stands in docs/serving.md.

Between BEGIN and END of that file nobody edits by hand: `moor validate --write` writes it, and `moor validate --check`
says when it is not fresh.
"""

from __future__ import annotations

from pathlib import Path

from moorage.catalog.locations import Fault, read_text
from moorage.serving.reasons import ACTIONS

DOCUMENT = "docs/serving.md"
BEGIN = "<!-- reasons -->"
END = "<!-- /reasons -->"


def reasons_table() -> str:
    """Every reason and what to do, as Markdown."""
    rows = [f"| `{reason.value}` | {ACTIONS[reason]} |" for reason in ACTIONS]
    return "\n".join(["| Reason | What to do |", "| --- | --- |", *rows])


def reasons_faults(root: Path) -> list[Fault]:
    """A fault when the document of the bundle at `root` does not hold the table as it is now."""
    text = read_text(root, DOCUMENT)
    if not isinstance(text, str):
        return []
    fresh = _with_table(text)
    if fresh == text:
        return []
    if fresh is None:
        return [_fault("there is no place for the reasons", f"add the lines {BEGIN} and {END}", line=1)]
    line = text.count("\n", 0, text.index(BEGIN)) + 1
    return [_fault("the table of reasons is not fresh", "run moor validate --write", line=line)]


def write_reasons(root: Path) -> bool:
    """Write the table anew; whether that changed anything."""
    text = read_text(root, DOCUMENT)
    fresh = _with_table(text) if isinstance(text, str) else None
    if fresh is None or fresh == text:
        return False
    (root / DOCUMENT).write_text(fresh, encoding="utf-8")
    return True


def _with_table(text: str) -> str | None:
    """The text with a fresh table; None when it has no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n\n{reasons_table()}\n\n{end}{after}" if begin and end else None


def _fault(message: str, hint: str, *, line: int) -> Fault:
    return Fault(file=DOCUMENT, line=line, pointer="", message=message, hint=hint)
