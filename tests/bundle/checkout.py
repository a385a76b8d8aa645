"""The checkout that the bundle's tests look at."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "AGENTS.md", "SKILL.md", "skills/platform/*/SKILL.md", "docs/*.md")


def files() -> list[str]:
    """Every file that is in git, or would be with the next commit, relative to the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()})


def documents() -> dict[str, str]:
    """Every text for people, by its path."""
    found = sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in found}


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    found = re.search(rf"^(?P<marks>#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"no heading {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found['marks'])}}} ", _without_fences(rest), re.MULTILINE)
    return rest[: end.start()] if end else rest


def fenced(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language."""
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```$", text, re.MULTILINE | re.DOTALL)


def table_rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables in a text, without head lines and rulers."""
    lines = [line.strip() for line in text.splitlines()]
    rows = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and not re.fullmatch(r"[|: -]+", line) and before.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def codes(text: str) -> list[str]:
    """What stands between backticks in a line of Markdown."""
    return re.findall(r"`([^`]+)`", text)


def _without_fences(text: str) -> str:
    """The text with the lines of fenced blocks blanked, so that a comment in a script is no heading."""
    return re.sub(r"^```.*?^```$", lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.MULTILINE | re.DOTALL)
