"""What a campaign found: figures to show, and faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Findings"]

SHOWN_FAULTS = 40


@dataclass
class Findings:
    """`counts` are in the order in which they were first counted; a campaign without `faults` has shown its point."""

    title: str
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    """Figures that one number each does not tell, as text."""

    def count(self, what: str, number: int = 1) -> None:
        """Add to a figure; 0 shows it although nothing was found."""
        self.counts[what] += number

    def fault(self, what: str) -> None:
        """Note what should not be."""
        self.faults.append(what)

    def check(self, holds: bool, what: str) -> bool:
        """Note `what` unless it holds; whether it does."""
        if not holds:
            self.fault(what)
        return holds

    def table(self) -> str:
        """All of it, as text."""
        width = max((len(what) for what in self.counts), default=0)
        lines = [f"{self.title}, seed {self.seed}", ""]
        lines += [f"  {what.ljust(width)}  {number:>8}" for what, number in self.counts.items()]
        lines += [line for table in self.tables for line in ("", table)]
        lines += ["", f"faults: {len(self.faults)}", *(f"  {fault}" for fault in self.faults[:SHOWN_FAULTS])]
        if len(self.faults) > SHOWN_FAULTS:
            lines.append(f"  and {len(self.faults) - SHOWN_FAULTS} more")
        return "\n".join(lines)
