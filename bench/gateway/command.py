"""`python -m bench gateway`: stands everything up, measures, tells, and takes it down again."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bench.gateway.accounting import split_cpus
from bench.gateway.cases import LONG, SHORT, Size, build_cases
from bench.gateway.drawing import draw_cases
from bench.gateway.figures import read_figures
from bench.gateway.long_sessions import LongSessions, long_bodies, run_long_sessions
from bench.gateway.measuring import CaseResult, run_case
from bench.gateway.scripts import make_bodies
from bench.gateway.speech import Speech, load_speech
from bench.gateway.stacks import atropos, litellm, moorage, nginx, vllm_router
from bench.gateway.stacks.contract import PeerMissing, Place, Running, StartStack, free_port, run_stack
from bench.gateway.stacks.environment import cache_folder
from bench.gateway.stored import read_stored
from bench.gateway.table import print_cases, print_long, print_verdicts
from bench.gateway.targets import judge

__all__ = ["main"]

PEERS = ("vllm-router", "litellm", "atropos")
NEEDED = ("nginx", "moorage", "moorage-exact")
"""Without these a gate has nothing to say, and so fails."""
ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str]) -> int:
    """The exit status: with `--gate` 1 when a target was missed by more than its slack, or nginx or the gateway is not
    there to be measured."""
    args = _parser().parse_args(argv)
    size = SHORT if args.short else LONG
    peers = _wanted_peers(args)
    folder = args.folder or cache_folder() / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as run:
        found = _measure(Path(run), args, size, peers)
    cases, long, versions, missing, lost = found
    figures = {**read_figures(cases, long), **lost}
    verdicts = judge(figures)
    print("\n\n".join([print_cases(cases), print_long(long), print_verdicts(verdicts, figures, missing)]))
    names = ", ".join(map(" ".join, versions.items()))
    print(f"\n{time.monotonic() - begun:.0f} s, {args.rounds or size.rounds} rounds; {names}")
    if args.svg:
        args.svg.write_text(draw_cases(cases))
    if args.json:
        args.json.write_text(json.dumps(_data(cases, long, figures, versions, missing), indent=1))
    absent = [name for name in NEEDED if name in missing]
    return int(args.gate and (bool(absent) or any(verdict.fails_gate for verdict in verdicts)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench gateway", description="The gateway beside its peers.")
    parser.add_argument("--short", action="store_true", help="fewer requests, nginx alone beside it: under 90 s")
    parser.add_argument("--peers", metavar="NAMES", help=f"of {', '.join(PEERS)}, with commas (long form: all)")
    parser.add_argument(
        "--cases", metavar="NAMES", help="pass, capture64, capture16, exact, exact24, alone, stream, long (all)"
    )
    parser.add_argument("--rounds", type=int, help="5 at least, for a median that means something")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "nano", help="the tokenizer's folder")
    parser.add_argument("--folder", type=Path, help="where stores are written (in the cache folder)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the result")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument(
        "--gate", action="store_true", help="exit with 1 when a target is missed by more than its slack"
    )
    return parser


def _wanted_peers(args: argparse.Namespace) -> list[str]:
    named = [name for name in (args.peers or "").split(",") if name]
    unknown = set(named) - set(PEERS)
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return named if named or args.short else list(PEERS)


def _measure(
    run: Path, args: argparse.Namespace, size: Size, peers: list[str]
) -> tuple[list[CaseResult], list[LongSessions], dict[str, str], dict[str, str], dict[str, float]]:
    model = args.model.resolve()
    wanted = set((args.cases or "").split(",")) - {""}
    speech = load_speech(model)
    with contextlib.ExitStack() as cleanup:
        stub_port, stacks, missing = cleanup.enter_context(_standing(run, model, peers))
        rounds = args.rounds or size.rounds
        cases = []
        for case in build_cases(stacks, stub_port, make_bodies(speech), size, run):
            if not wanted or case.name in wanted:
                _say(case.title)
                cases.append(run_case(case, rounds))
        long = _measure_long(stacks, speech, size, rounds) if not wanted or "long" in wanted else []
        versions = {name: running.version for name, running in stacks.items()}
        return cases, long, versions, missing, _lost(stacks, cases, long)


def _measure_long(stacks: dict[str, Running], speech: Speech, size: Size, rounds: int) -> list[LongSessions]:
    found = []
    for mode, stack in (("passthrough", "moorage"), ("exact", "moorage-exact")):
        if stack in stacks:
            _say(f"turn 200 against turn 5, {mode}")
            bodies = long_bodies(speech, mode)
            try:
                found.append(run_long_sessions(mode, stacks[stack], bodies, size.long_sessions, rounds))
            except RuntimeError as fault:
                found.append(LongSessions(mode, errors=1, faults=[str(fault)]))
    return found


def _lost(stacks: dict[str, Running], cases: list[CaseResult], long: list[LongSessions]) -> dict[str, float]:
    """Calls answered against calls in the stores; empty without a store."""
    answered: dict[Path, int] = {}
    for case in cases:
        for store, calls in case.captured.items():
            answered[store] = answered.get(store, 0) + calls
    for result in long:
        own = stacks["moorage-exact" if result.mode == "exact" else "moorage"].store
        assert own
        answered[own] = answered.get(own, 0) + result.calls
    if not answered:
        return {}
    lost = sum(abs(read_stored(store).calls - calls) for store, calls in answered.items())
    return {"lost": float(lost), "answered": float(sum(answered.values()))}


@contextlib.contextmanager
def _standing(run: Path, model: Path, peers: list[str]) -> Iterator[tuple[int, dict[str, Running], dict[str, str]]]:
    """The stub's port, the stacks that answer, and why the others do not."""
    stack_cpus, load_cpus = split_cpus(os.sched_getaffinity(0))
    os.sched_setaffinity(0, load_cpus)
    starts: dict[str, StartStack] = {
        "nginx": nginx.start,
        "moorage": moorage.start_passthrough,
        "moorage-exact": moorage.start_exact,
        "vllm-router": partial(vllm_router.start, install=True),
        "litellm": partial(litellm.start, install=True),
        "atropos": partial(atropos.start, install=True),
    }
    stacks: dict[str, Running] = {}
    missing = {name: "not asked for" for name in PEERS if name not in peers}
    port = free_port()
    stub_argv = [sys.executable, "-m", "bench.gateway.stub", "--port", str(port), "--model", str(model)]
    stub_place = Place(run / "stub", port, load_cpus, model)
    stub = run_stack(stub_argv, stub_place, port, ready="/health", within_s=60, env={"PYTHONPATH": str(ROOT)})
    try:
        for name in [name for name in starts if name not in missing]:
            _say(f"starting {name}")
            try:
                stacks[name] = starts[name](Place(run / name, port, stack_cpus, model))
            except PeerMissing as fault:
                missing[name] = str(fault)
        yield port, stacks, missing
    finally:
        for running in (*stacks.values(), stub):
            running.stop()
        os.sched_setaffinity(0, stack_cpus | load_cpus)


def _data(
    cases: list[CaseResult],
    long: list[LongSessions],
    figures: dict[str, float],
    versions: dict[str, str],
    missing: dict[str, str],
) -> dict[str, Any]:
    """Round by round, so that another reading of the same run is possible."""
    return {
        "machine": {"python": platform.python_version(), "kernel": platform.release(), "cpus": os.cpu_count()},
        "versions": versions,
        "missing": missing,
        "figures": figures,
        "cases": {
            case.name: {
                name: {
                    "cpu_us": case.cpu_us(name),
                    "p50_s": case.p50_s(name),
                    "first_p50_s": case.first_p50_s(name),
                    "requests_per_s": case.rate(name),
                    "errors": case.errors(name),
                }
                for name in case.reports
            }
            for case in cases
        },
        "long": [asdict(result) for result in long],
    }


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
