"""The help of every verb, as it is typed and as it stands in docs/cli.md."""

from __future__ import annotations

import argparse
import importlib

from moorage.cli.main import SUBVERBS, VERBS
from moorage.cli.parser import Parser
from moorage.cli.written_section import WrittenSection

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


HELP = WrittenSection(
    document="docs/cli.md",
    begin="<!-- help of every verb -->",
    end="<!-- /help of every verb -->",
    what="the help of the verbs",
    make=help_section,
)
