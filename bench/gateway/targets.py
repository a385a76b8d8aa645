"""What the gateway has to reach, and whether it did: decisions only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GATE_SLACK", "TARGETS", "Target", "Verdict", "judge"]

GATE_SLACK = 1.3
"""A machine that others use as well moves a ratio by a third; a gate fails only above that."""


@dataclass(frozen=True, slots=True)
class Target:
    """At most `limit`."""

    figure: str
    limit: float
    words: str
    unit: str = "x"
    exact: bool = False
    """No slack: a count, not a time."""
    held: float | None = None
    """Where the target is still missed: what the gate holds the figure to meanwhile. None: the target and its slack."""

    @property
    def gate(self) -> float:
        """Above this the gate fails."""
        if self.exact:
            return self.limit
        return self.held if self.held is not None else self.limit * GATE_SLACK

    @property
    def case(self) -> str:
        """The case that measures it: `stream captured/nginx` is of `stream`."""
        return self.figure.partition("/")[0].partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    measured: float | None
    """None: not measured in this run."""

    @property
    def share(self) -> float | None:
        """Of what is allowed; None where nothing was measured or nothing is allowed."""
        if self.measured is None or self.target.limit == 0:
            return None
        return self.measured / self.target.limit

    @property
    def state(self) -> str:
        if self.measured is None:
            return "not measured"
        if self.measured <= self.target.limit:
            return "met"
        return "missed" if self.fails_gate else f"missed, the gate is {self.target.gate:.3g}"

    @property
    def fails_gate(self) -> bool:
        return self.measured is not None and self.measured > self.target.gate


TARGETS = (
    Target("pass/nginx", 3.5, "pass-through, 16 at once: CPU to nginx's"),
    Target("pass/vllm-router", 1.0, "pass-through, 16 at once: CPU to vllm-router's"),
    Target("capture64/nginx", 7.0, "session capture, durable, 64 at once: CPU to nginx's", held=16.0),
    Target("capture16/litellm", 1 / 60, "session capture, durable, 16 at once: CPU to LiteLLM's"),
    Target("exact/nginx", 9.0, "exact conversations, durable: CPU to nginx's", held=24.0),
    Target("exact/atropos", 1 / 30, "exact conversations, durable: CPU to the Atropos proxy's"),
    Target(
        "alone/fdatasyncs",
        3.0,
        "one at a time, durable: p50 above nginx's, in fdatasyncs of a record",
        "fdatasyncs",
        held=8.0,
    ),
    Target("stream/nginx", 2.0, "paced streams, pass-through: CPU to nginx's"),
    Target("stream/first_ms", 1.0, "paced streams, pass-through: first chunk after nginx's", "ms"),
    Target("stream captured/nginx", 4.0, "paced streams, captured and durable: CPU to nginx's"),
    Target("long passthrough/cpu", 1.3, "turn 200 to turn 5, engine-rendered: CPU above a pass-through"),
    Target("long exact/cpu", 1.3, "turn 200 to turn 5, exact: CPU above a pass-through"),
    Target("long passthrough/bytes", 1.0, "stored at turn 200, engine-rendered: bytes to the budget"),
    Target("long exact/bytes", 1.0, "stored at turn 200, exact: bytes to the budget"),
    Target("workers/sqlite", 1.15, "session capture, durable, 4 workers: CPU a request to one worker's"),
    Target("workers/postgres", 1.15, "the same over PostgreSQL"),
    Target(
        "workers/postgres to sqlite", 1.3, "session capture, durable, 64 at once: PostgreSQL to SQLite, gateway's CPU"
    ),
    Target("lost", 0.0, "calls answered and not in the store, or the other way round", "calls", exact=True),
    Target("errors", 0.0, "requests that failed", "requests", exact=True),
)


def judge(figures: Mapping[str, float]) -> list[Verdict]:
    """Every target against what was measured, in the table's order."""
    return [Verdict(target, figures.get(target.figure)) for target in TARGETS]
