"""The figures of each quarter of a soak."""

from __future__ import annotations

import statistics
from collections import Counter

from tests.campaigns.soak.gauges import Reading
from tests.campaigns.soak.load import Load

__all__ = ["MEMORY_RATIO", "Quarters"]

MEMORY_RATIO = 1.05
"""What the last quarter's resident memory may be of the second's."""


class Quarters:
    """Readings are added as they are taken."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._readings: list[tuple[Reading, Counter[str]]] = []
        self._last: Reading
        self.rows: list[dict[str, float]] = []

    def begin(self, reading: Reading) -> None:
        """Count from here."""
        self._last = reading
        self._load.took_s = self._load.took_s[:0]

    def add(self, reading: Reading, metrics: Counter[str]) -> None:
        """Of the quarter that is under way."""
        self._readings.append((reading, metrics))

    def line(self) -> str:
        """How it is now."""
        reading, metrics = self._readings[-1]
        many = sum(reading.descriptors.values())
        return (
            f"{self._load.calls} calls, {reading.resident_mb:.0f} MB, {reading.own_mb:.0f} of the first process, "
            f"{many} descriptors, "
            f"{sum(reading.tasks.values())} tasks, {metrics['moorage_sessions_in_memory']:.0f} sessions in memory, "
            f"{len(self._load.findings.faults)} faults"
        )

    def end_one(self) -> None:
        """Its figures, from what was added since the one before it."""
        readings, took = [one for one, _ in self._readings], sorted(self._load.took_s)
        end, metrics = self._readings[-1]
        self.rows.append(
            {
                "resident MB (median)": statistics.median(one.resident_mb for one in readings),
                "resident MB (most)": max(one.resident_mb for one in readings),
                "of the first process": statistics.median(one.own_mb for one in readings),
                "CPU, % of a core": 100 * (end.cpu_s - self._last.cpu_s) / (end.at - self._last.at),
                "descriptors (most)": max(sum(one.descriptors.values()) for one in readings),
                "asyncio tasks (most)": max(sum(one.tasks.values()) for one in readings),
                "threads (most)": max(one.threads for one in readings),
                "processes (most)": max(one.processes for one in readings),
                "store MB": end.store_mb,
                "sessions open": metrics["moorage_sessions_open"],
                "sessions in memory": metrics["moorage_sessions_in_memory"],
                "these take MB": metrics["moorage_session_memory_bytes"] / 1e6,
                "whole calls": len(took),
                "p50 ms": 1e3 * _quantile(took, 0.5),
                "p99 ms": 1e3 * _quantile(took, 0.99),
            }
        )
        self._readings = []
        self.begin(end)

    def check_memory(self) -> None:
        """A finding when the last quarter's is more than it may be: of all, and of the first process alone.

        Parsers hold hundreds of MB that never change, under which the gateway's own growth would not be seen.
        """
        for name in ("resident MB (median)", "of the first process"):
            second, last = (self.rows[quarter][name] for quarter in (1, 3))
            self._load.findings.check(
                last <= MEMORY_RATIO * second,
                f"{name}: {last:.1f} MB in the last quarter, {second:.1f} in the second ({last / second:.3f} x)",
            )

    def table(self) -> str:
        """One line a figure, one column a quarter."""
        lines = [f"  {'quarter':<24}{1:>10}{2:>10}{3:>10}{4:>10}"]
        for name in self.rows[0]:
            lines.append(f"  {name:<24}" + "".join(f"{row[name]:>10.1f}" for row in self.rows))
        return "\n".join(lines)


def _quantile(values: list[float], share: float) -> float:
    """Of sorted ones."""
    return values[int(len(values) * share)] if values else 0.0
