"""What was measured, in words and numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.gateway.long_sessions import BYTES_BUDGET, LongSessions
from bench.gateway.measuring import CaseResult
from bench.gateway.targets import GATE_SLACK, Verdict

__all__ = ["print_cases", "print_long", "print_verdicts"]

YARDSTICK = "nginx"


def print_cases(cases: Sequence[CaseResult]) -> str:
    """A table a case."""
    return "\n\n".join(_print_case(case) for case in cases)


def print_long(results: Sequence[LongSessions]) -> str:
    """Turn 5 and turn 200, side by side."""
    lines = ["turn 200 of a session against turn 5, a call"]
    for result in results:
        lines += [f"  {result.mode:12} {fault}" for fault in result.faults[:3]]
        for turn, captured in result.captured_us.items():
            if not captured:
                continue
            passed, stored = result.passed_us[turn], result.record_bytes[turn]
            lines.append(
                f"  {result.mode:12} turn {turn:3}  {statistics.median(captured):7.0f} us captured, "
                f"{statistics.median(passed):7.0f} us passed through, {result.above_us(turn):7.0f} us above; "
                f"{statistics.median(stored):6.0f} bytes of {BYTES_BUDGET}, "
                f"{statistics.median(result.text_bytes[turn]):5.0f} of text"
            )
    return "\n".join(lines)


def print_verdicts(verdicts: Sequence[Verdict], figures: Mapping[str, float], missing: Mapping[str, str]) -> str:
    width = max(len(verdict.target.words) for verdict in verdicts)
    lines = [f"targets (the gate fails above {GATE_SLACK} of one, or above what one is held to)"]
    for verdict in verdicts:
        target = verdict.target
        measured = "-" if verdict.measured is None else f"{verdict.measured:.3g}"
        share = "" if verdict.share is None else f"{verdict.share:5.2f} of it"
        lines.append(
            f"  {target.words.ljust(width)}  {measured:>8}  at most {target.limit:<6.3g} {target.unit:10}  "
            f"{share:12}  {verdict.state}"
        )
    if "alone/added_ms" in figures:
        lines.append(
            f"  one at a time: p50 added by moorage {figures['alone/added_ms']:.3f} ms, by nginx "
            f"{figures['alone/nginx_added_ms']:.3f} ms; fdatasync of a record {figures['alone/fdatasync_ms']:.3f} ms"
        )
    lines += [f"  {name} is not here: {why}" for name, why in missing.items()]
    return "\n".join(lines)


def _print_case(case: CaseResult) -> str:
    heads = ("CPU us", "x nginx", "p50 ms", "first ms", "req/s", "KB", "errors")
    lines = [case.title, f"  {'':18}" + "".join(f"{head:>10}" for head in heads)]
    for name, reports in case.reports.items():
        cpu = case.cpu_us(name)
        ratio = case.cpu_ratio(name, YARDSTICK) if cpu and YARDSTICK in case.reports else None
        size = statistics.median(report.body_bytes / max(report.requests, 1) for report in reports)
        cells = (
            f"{statistics.median(cpu):.1f}" if cpu else "-",
            "-" if ratio is None else f"{ratio:.2f}",
            f"{statistics.median(case.p50_s(name)) * 1e3:.3f}",
            f"{statistics.median(case.first_p50_s(name)) * 1e3:.3f}",
            f"{case.rate(name):.0f}",
            f"{size / 1000:.1f}",
            f"{case.errors(name)}",
        )
        lines.append(f"  {name:18}" + "".join(f"{cell:>10}" for cell in cells))
        lines += [f"      {fault}" for report in reports for fault in report.faults][:2]
    lines += [f"  {name:18}  broken: {fault}" for name, fault in case.broken.items()]
    return "\n".join(lines)
