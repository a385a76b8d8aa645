"""From what was measured to the figures that targets are about: decisions only."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.gateway.long_sessions import BYTES_BUDGET, LATE, LongSessions
from bench.gateway.measuring import CaseResult
from bench.gateway.rounds import usable_rounds

__all__ = ["better_of", "read_figures"]

OURS = "moorage"


def read_figures(cases: Sequence[CaseResult], long: Sequence[LongSessions]) -> dict[str, float]:
    """By the names that targets have; what was not measured is left out."""
    figures: dict[str, float] = {}
    for case in cases:
        figures |= _cpu_ratios(case)
    by_name = {case.name: case for case in cases}
    figures |= _alone(by_name.get("alone"))
    figures |= _first_chunk(by_name.get("stream"))
    figures |= _workers(by_name.get("workers"))
    for result in long:
        if result.captured_us[LATE]:
            figures[f"long {result.mode}/cpu"] = result.ratio()
            figures[f"long {result.mode}/bytes"] = statistics.median(result.record_bytes[LATE]) / BYTES_BUDGET
    figures["errors"] = float(_errors(cases) + sum(result.errors for result in long))
    return figures


def better_of(first: Mapping[str, float], again: Mapping[str, float]) -> dict[str, float]:
    """Of two measurements the smaller figures; what failed is added up."""
    found = {**first, **{name: min(first.get(name, value), value) for name, value in again.items()}}
    return {**found, "errors": first["errors"] + again["errors"]}


def _cpu_ratios(case: CaseResult) -> Mapping[str, float]:
    """Ours to each other stack; a second way of ours is named after its own words."""
    found = {}
    for ours in [name for name in case.reports if name.startswith(OURS)]:
        label = f"{case.name}{ours.removeprefix(OURS)}"
        for other in case.reports:
            if not other.startswith(OURS) and case.cpu_us(other):
                found[f"{label}/{other}"] = case.cpu_ratio(ours, other)
    return found


def _alone(case: CaseResult | None) -> Mapping[str, float]:
    """Medians of what was measured round by round: latencies on this machine move with the disk's."""
    if case is None or not {OURS, "nginx"} <= case.reports.keys():
        return {}
    ours, nginx, direct = case.p50_s(OURS), case.p50_s("nginx"), case.p50_s("direct")
    rounds = range(len(ours))
    return {
        "alone/fdatasyncs": statistics.median((ours[i] - nginx[i]) / case.between[i] for i in rounds),
        "alone/added_ms": statistics.median((ours[i] - direct[i]) * 1e3 for i in rounds),
        "alone/nginx_added_ms": statistics.median((nginx[i] - direct[i]) * 1e3 for i in rounds),
        "alone/fdatasync_ms": statistics.median(case.between) * 1e3,
    }


def _first_chunk(case: CaseResult | None) -> Mapping[str, float]:
    if case is None or not {OURS, "nginx"} <= case.reports.keys():
        return {}
    ours, nginx = case.first_p50_s(OURS), case.first_p50_s("nginx")
    rounds = usable_rounds(nginx)
    return {"stream/first_ms": statistics.median((ours[i] - nginx[i]) * 1e3 for i in rounds)}


def _workers(case: CaseResult | None) -> Mapping[str, float]:
    """Several workers to one, over each store, and the stores to each other."""
    pairs = {
        "workers/sqlite": ("moorage 4 workers", "moorage"),
        "workers/postgres": ("moorage postgres 4 workers", "moorage postgres"),
        "workers/postgres to sqlite": ("moorage postgres", "moorage"),
    }
    if case is None:
        return {}
    known = {name: pair for name, pair in pairs.items() if set(pair) <= case.reports.keys()}
    return {name: case.cpu_ratio(*pair) for name, pair in known.items()}


def _errors(cases: Sequence[CaseResult]) -> int:
    """Ours: what a peer cannot do is shown and is not our fault."""
    failed = sum(case.errors(name) for case in cases for name in case.reports if name.startswith(OURS))
    return failed + sum(name.startswith(OURS) for case in cases for name in case.broken)
