"""Asking a person for sampling values: all fields in one round, Enter takes the default."""

from __future__ import annotations

import sys
from typing import Any

from moorage.cli.output import Output
from moorage.errors import MoorageError
from moorage.launch.plane import Plane
from moorage.launch.request import Ask


def ask_on_terminal(plane: Plane, out: Output) -> Ask:
    """A function that asks for the fields of an arch that were not given."""
    from moorage.catalog.sampling import check_values, fields_of, parse_field, range_words

    def ask(arch: str, values: dict[str, Any]) -> dict[str, Any]:
        out.talk(f"Sampling for {arch}: Enter takes what stands in brackets")
        answers = dict(values)
        for name, field in fields_of(plane.catalog, arch).items():
            if name in answers:
                continue
            default = "leave away" if field.default is None else field.default
            while True:
                text = _read_line(f"  {name} ({range_words(field)}) [{default}]: ")
                if not text:
                    if field.default is not None:
                        answers[name] = field.default
                    break
                try:
                    value = parse_field(field, text)
                    check_values(plane.catalog, arch, {name: value})
                except MoorageError as fault:
                    out.talk(f"    {fault.message}")
                    continue
                answers[name] = value
                break
        return answers

    return ask


def _read_line(prompt: str) -> str:
    """A line from the terminal; the prompt goes to stderr, so that stdout holds the reply alone."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise KeyboardInterrupt
    return line.strip()
