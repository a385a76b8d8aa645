"""The help of every verb, as it is typed and as it stands in docs/cli.md.

Between BEGIN and END of that file nobody edits by hand: `moor validate --write` writes it from the parsers, and
`moor validate --check` says when it is not fresh.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from moorage.catalog.locations import Fault, read_text
from moorage.cli.main import SUBVERBS, VERBS
from moorage.cli.parser import Parser

DOCUMENT = "docs/cli.md"
BEGIN = "<!-- help of every verb -->"
END = "<!-- /help of every verb -->"
COLUMNS = 100


def help_of(verb: str) -> str:
    """What `moor VERB --help` prints in a terminal of 100 columns."""
    module = importlib.import_module(f"moorage.cli.verbs.{verb.replace(' ', '_')}")
    parser = Parser(verb, module.SUMMARY)
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=COLUMNS)
    module.add_arguments(parser)
    return parser.format_help()


def help_section() -> str:
    """Every verb with its help, as Markdown."""
    sections = [("###", verb) for verb in VERBS] + [("####", verb) for verb in sorted(SUBVERBS)]
    return "\n".join(f"{level} moor {verb}\n\n```text\n{help_of(verb)}```\n" for level, verb in sections)


def help_faults(root: Path) -> list[Fault]:
    """A fault when the document of the bundle at `root` does not hold the help as it is now."""
    text = read_text(root, DOCUMENT)
    if not isinstance(text, str):
        return []
    fresh = _with_help(text)
    if fresh is None:
        return [_fault("there is no place for the help of the verbs", f"add the lines {BEGIN} and {END}", line=1)]
    line = text.count("\n", 0, text.index(BEGIN)) + 1
    return (
        [] if fresh == text else [_fault("the help of the verbs is not fresh", "run moor validate --write", line=line)]
    )


def write_help(root: Path) -> bool:
    """Write the help anew; whether that changed anything."""
    text = read_text(root, DOCUMENT)
    fresh = _with_help(text) if isinstance(text, str) else None
    if fresh is None or fresh == text:
        return False
    (root / DOCUMENT).write_text(fresh, encoding="utf-8")
    return True


def _with_help(text: str) -> str | None:
    """The text with fresh help; None when it has no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n\n{help_section()}\n{end}{after}" if begin and end else None


def _fault(message: str, hint: str, *, line: int) -> Fault:
    return Fault(file=DOCUMENT, line=line, pointer="", message=message, hint=hint)
