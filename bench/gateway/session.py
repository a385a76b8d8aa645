"""One run: the cases in turn, once more what missed its target, and the figures of it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateway.cases import Size, build_cases
from bench.gateway.figures import better_of, read_figures
from bench.gateway.long_sessions import LongSessions, long_bodies, run_long_sessions
from bench.gateway.measuring import Case, CaseResult, run_case
from bench.gateway.scripts import make_bodies
from bench.gateway.speech import Speech
from bench.gateway.standing import Stand, say
from bench.gateway.stored import read_stored
from bench.gateway.targets import judge

__all__ = ["LONG_SESSIONS", "Found", "measure"]

LONG_SESSIONS = "long"
MODES = {"passthrough": "moorage", "exact": "moorage-exact"}


@dataclass(slots=True)
class Found:
    """Everything that was measured."""

    cases: list[CaseResult] = field(default_factory=list)
    long: list[LongSessions] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def measure(
    stand: Stand, speech: Speech, size: Size, rounds: int, run: Path, wanted: set[str], *, again: bool
) -> Found:
    """The wanted cases (none named: all); `again`: those that would fail the gate once more, the better figure stands.

    A neighbour's work can spoil one measurement; a slow gateway is slow twice.
    """
    cases = build_cases(stand.stacks, stand.stub_port, make_bodies(speech), size, run)
    found = _once(rounds, [case for case in cases if not wanted or case.name in wanted])
    if not wanted or LONG_SESSIONS in wanted:
        found.long = _long_sessions(stand, speech, size, rounds)
    found.figures = read_figures(found.cases, found.long)
    missed = {verdict.target.case for verdict in judge(found.figures) if verdict.fails_gate} if again else set()
    if missed:
        say(f"once more: {', '.join(sorted(missed))}")
        second = _once(rounds, [case for case in cases if case.name in missed])
        second.long = _long_sessions(stand, speech, size, rounds) if LONG_SESSIONS in missed else []
        found.figures = better_of(found.figures, read_figures(second.cases, second.long))
        found.cases += second.cases
        found.long += second.long
    found.figures |= _lost(stand, found)
    return found


def _once(rounds: int, cases: list[Case]) -> Found:
    found = Found()
    for case in cases:
        say(case.title)
        found.cases.append(run_case(case, rounds))
    return found


def _long_sessions(stand: Stand, speech: Speech, size: Size, rounds: int) -> list[LongSessions]:
    found = []
    for mode, stack in MODES.items():
        if stack not in stand.stacks:
            continue
        say(f"turn 200 against turn 5, {mode}")
        bodies = long_bodies(speech, mode)
        try:
            found.append(run_long_sessions(mode, stand.stacks[stack], bodies, size.long_sessions, rounds))
        except RuntimeError as fault:
            found.append(LongSessions(mode, errors=1, faults=[str(fault)]))
    return found


def _lost(stand: Stand, found: Found) -> Mapping[str, float]:
    """Calls answered against calls in the stores; empty without a store."""
    answered: dict[Path, int] = {}
    for case in found.cases:
        for store, calls in case.captured.items():
            answered[store] = answered.get(store, 0) + calls
    for result in found.long:
        own = stand.stacks[MODES[result.mode]].store
        assert own
        answered[own] = answered.get(own, 0) + result.calls
    if not answered:
        return {}
    lost = sum(abs(read_stored(store).calls - calls) for store, calls in answered.items())
    return {"lost": float(lost), "answered": float(sum(answered.values()))}
