"""How patient the control plane is. Every figure is in seconds or a count."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The figures that a plan follows."""

    deadline_s: float = 900.0
    """An application that was accepted must serve within this, or its generation has failed."""
    attempts: int = 3
    """So many failures in a row of a new generation, and it has failed."""
    drain_s: float = 30.0
    """What was replaced is kept so long for the requests that it still answers."""
    backoff_s: float = 0.5
    """The pause after the first failure; it doubles with every further one."""
    backoff_max_s: float = 60.0
    """No pause is longer."""

    def backoff(self, failures: int) -> float:
        """The pause after so many failures in a row."""
        return min(self.backoff_s * 2.0 ** min(max(failures - 1, 0), 32), self.backoff_max_s)
