"""Runs cases: every stack in every round, its CPU counted, its replies and errors with it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop

from bench.gateway.accounting import tree_cpu_s
from bench.gateway.load import Report, Script, run_load
from bench.gateway.rounds import order_of_round, round_ratio
from bench.gateway.stacks.contract import Running

__all__ = ["Case", "CaseResult", "Contestant", "run_case"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One stack in one case."""

    name: str
    port: int
    running: Running | None
    """None: the stub itself, whose CPU is not counted."""
    scripts: Callable[[], list[Script]]
    captures: bool = False
    """Every call it answers is to be in its store."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    title: str
    contestants: list[Contestant]
    between: Callable[[], float] | None = None
    """Measured once a round beside the stacks; its values are kept."""


@dataclass(slots=True)
class CaseResult:
    """[rounds] reports by stack."""

    name: str
    title: str
    reports: dict[str, list[Report]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Why a stack is not among the reports."""
    between: list[float] = field(default_factory=list)
    captured: dict[Path, int] = field(default_factory=dict)
    """Calls answered by those that capture, warm-ups included, by store."""

    def cpu_us(self, name: str) -> list[float]:
        """[rounds] microseconds of CPU a request; empty for the stub itself."""
        return [
            report.cpu_s / max(report.requests, 1) * 1e6 for report in self.reports[name] if report.cpu_s is not None
        ]

    def cpu_ratio(self, name: str, reference: str) -> float:
        return round_ratio(self.cpu_us(name), self.cpu_us(reference))

    def p50_s(self, name: str) -> list[float]:
        """[rounds] medians until the last byte."""
        return [statistics.median(report.latencies_s or [0.0]) for report in self.reports[name]]

    def first_p50_s(self, name: str) -> list[float]:
        """[rounds] medians until the first byte of the body."""
        return [statistics.median(report.first_byte_s or [0.0]) for report in self.reports[name]]

    def rate(self, name: str) -> float:
        """Requests a second, median over the rounds."""
        return statistics.median(report.requests / report.wall_s for report in self.reports[name])

    def errors(self, name: str) -> int:
        return sum(report.errors for report in self.reports[name])


def run_case(case: Case, rounds: int) -> CaseResult:
    """Forwards and backwards in turn, so that what drifts touches all alike.

    A stack that cannot do the case is left out of it from then on, and the result says why.
    """
    result = CaseResult(case.name, case.title, {contestant.name: [] for contestant in case.contestants})
    by_name = {contestant.name: contestant for contestant in case.contestants}
    for number in range(rounds):
        for name in order_of_round(list(result.reports), number):
            try:
                report = run_contestant(by_name[name])
            except RuntimeError as fault:
                del result.reports[name]
                result.broken[name] = str(fault)
                continue
            result.reports[name].append(report)
            running = by_name[name].running
            if by_name[name].captures and running and running.store:
                result.captured[running.store] = result.captured.get(running.store, 0) + report.calls_answered
        if case.between:
            result.between.append(case.between())
    return result


def run_contestant(contestant: Contestant) -> Report:
    """One load on one stack."""
    running = contestant.running
    read_cpu = partial(tree_cpu_s, running.process.pid) if running else None
    return uvloop.run(run_load(contestant.port, contestant.scripts(), read_cpu))
