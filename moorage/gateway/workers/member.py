"""Which of a parent's workers this process is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Member"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of `count` workers, counted from 0."""

    index: int
    count: int
    folder: Path
    """Of the parent, 0700: the workers' sockets."""
    lifeline: int
    """A pipe that nobody writes to: its end says that the parent has died."""
    again: bool
    """It takes the place of one that died: the others serve meanwhile."""
