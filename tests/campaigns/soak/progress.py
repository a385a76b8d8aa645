"""How far it is: one line that is written over on a terminal, else a line a minute."""

from __future__ import annotations

import sys

__all__ = ["Progress"]

EACH_S = 60.0


class Progress:
    """On stderr."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._next_s = EACH_S
        self._terminal = sys.stderr.isatty()

    def tell(self, elapsed_s: float, line: str) -> None:
        """`elapsed_s` since the load began."""
        said = f"{elapsed_s / 60:.1f} of {self._length_s / 60:g} min: {line}"
        if self._terminal:
            ended = "\n" if elapsed_s >= self._length_s else ""
            sys.stderr.write(f"\r\x1b[K{said}{ended}")
        elif elapsed_s >= self._next_s:
            self._next_s += EACH_S
            sys.stderr.write(said + "\n")
        sys.stderr.flush()
