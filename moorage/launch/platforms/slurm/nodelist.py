"""Slurm's way to write several nodes: `node[001-003,7],login2`. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

MOST = 100_000
"""More names than that is no cluster."""
NO_NODES = frozenset({"", "(null)", "n/a", "None", "None assigned"})


def expand_nodes(text: str) -> tuple[str, ...]:
    """Every node, in the order written. What cannot be read as a list is taken as one name."""
    if text.strip() in NO_NODES:
        return ()
    names = itertools.chain.from_iterable(_expand(part) for part in _parts(text.strip()))
    return tuple(itertools.islice(names, MOST))


def first_node(text: str) -> str | None:
    """The one that runs the batch script; None where no node is given yet."""
    return next(iter(expand_nodes(text)), None)


def _parts(text: str) -> Iterator[str]:
    """Split at the commas that are outside brackets."""
    depth = begun = 0
    for index, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            yield text[begun:index]
            begun = index + 1
    yield text[begun:]


def _expand(part: str) -> Iterator[str]:
    found = re.fullmatch(r"([^\[\]]*)\[([^\[\]]*)\](.*)", part)
    if found is None:
        if part:
            yield part
        return
    head, ranges, rest = found.groups()
    for number in itertools.chain.from_iterable(map(_range, ranges.split(","))):
        for end in _expand(rest) if rest else ("",):
            yield f"{head}{number}{end}"


def _range(text: str) -> Iterator[str]:
    """`001-003` → 001, 002, 003; leading zeros stay."""
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    if found is None:
        yield text
        return
    first, last = found.groups()
    for number in range(int(first), min(int(last), int(first) + MOST) + 1):
        yield f"{number:0{len(first)}d}"
