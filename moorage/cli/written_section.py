"""A part of a document that nobody edits by hand: `moor validate --write` writes it, `--check` holds it fresh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moorage.catalog.locations import Fault, read_text

__all__ = ["WrittenSection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenSection:
    """What stands between the lines `begin` and `end` of `document`, a path within the bundle."""

    document: str
    begin: str
    end: str
    what: str
    """What it is called in a fault."""
    make: Callable[[], str]
    """The section as it is now, in Markdown."""

    def faults(self, root: Path) -> list[Fault]:
        """A fault when the document of the bundle at `root` does not hold it as it is now."""
        text = read_text(root, self.document)
        if not isinstance(text, str):
            return []
        fresh = self._fresh(text)
        if fresh == text:
            return []
        if fresh is None:
            return [self._fault(f"there is no place for {self.what}", f"add the lines {self.begin} and {self.end}", 1)]
        line = text.count("\n", 0, text.index(self.begin)) + 1
        return [self._fault(f"{self.what}: not fresh", "run moor validate --write", line)]

    def write(self, root: Path) -> bool:
        """Write it anew; whether that changed anything."""
        text = read_text(root, self.document)
        fresh = self._fresh(text) if isinstance(text, str) else None
        if fresh is None or fresh == text:
            return False
        (root / self.document).write_text(fresh, encoding="utf-8")
        return True

    def _fresh(self, text: str) -> str | None:
        """The text with the section made anew; None when it has no place for it."""
        before, begin, rest = text.partition(self.begin)
        _, end, after = rest.partition(self.end)
        return f"{before}{begin}\n\n{self.make().rstrip()}\n\n{end}{after}" if begin and end else None

    def _fault(self, message: str, hint: str, line: int) -> Fault:
        return Fault(file=self.document, line=line, pointer="", message=message, hint=hint)
