"""Copies of the real reference files that a test may break."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[3]
SKILL = """---
name: moorage
description: Start an inference service.
---
# Moorage
"""


def copy_checkout(target: Path) -> Path:
    """The real references with a skill of one line, and nothing else: a checkout without faults."""
    shutil.copytree(ROOT / "references", target / "references")
    shutil.copy(ROOT / "versions.yaml", target)
    (target / "SKILL.md").write_text(SKILL)
    return target


def put(root: Path, file: str, text: str) -> None:
    """Write a file and the folders above it."""
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)


def swap(root: Path, file: str, old: str, new: str) -> None:
    """Replace text that is in the file exactly once."""
    text = (root / file).read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
    (root / file).write_text(text.replace(old, new))


def line_of(root: Path, file: str, needle: str) -> int:
    """The 1-based line that holds the needle, which is on one line alone."""
    found = [number for number, line in enumerate((root / file).read_text().splitlines(), start=1) if needle in line]
    assert len(found) == 1, f"{needle!r} is on the lines {found} of {file}"
    return found[0]
