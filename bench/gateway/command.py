"""`python -m bench gateway`: measures, tells, draws, and says whether it was fast enough."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.gateway.cases import LONG, SHORT, WORKERS_CASE
from bench.gateway.drawing import draw_cases
from bench.gateway.session import Found, measure
from bench.gateway.speech import load_speech
from bench.gateway.stacks.environment import cache_folder
from bench.gateway.standing import PEERS, ROOT, Stand, standing
from bench.gateway.table import print_cases, print_long, print_verdicts
from bench.gateway.targets import judge

__all__ = ["main"]

NEEDED = ("nginx", "moorage", "moorage-exact")
"""Without these a gate has nothing to say, and so fails."""


def main(argv: list[str]) -> int:
    """The exit status: with `--gate` 1 when a target was missed by more than its slack, or nginx or the gateway is not
    there to be measured."""
    args = _parser().parse_args(argv)
    size = SHORT if args.short else LONG
    rounds = args.rounds or size.rounds
    model = args.model.resolve()
    wanted = set((args.cases or "").split(",")) - {""}
    folder = args.folder or cache_folder() / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir=folder) as run,
        standing(
            Path(run), model, _wanted_peers(args), workers=WORKERS_CASE in wanted or not (wanted or args.short)
        ) as stand,
    ):
        found = measure(stand, load_speech(model), size, rounds, Path(run), wanted, again=args.gate)
    verdicts = judge(found.figures)
    print("\n\n".join([print_cases(found.cases), print_long(found.long)]))
    print("\n" + print_verdicts(verdicts, found.figures, stand.missing))
    versions = ", ".join(f"{name} {running.version}" for name, running in stand.stacks.items())
    print(f"\n{time.monotonic() - begun:.0f} s, {rounds} rounds; {versions}")
    if args.svg:
        args.svg.write_text(draw_cases(found.cases))
    if args.json:
        args.json.write_text(json.dumps(_data(found, stand), indent=1))
    absent = [name for name in NEEDED if name in stand.missing]
    return int(args.gate and (bool(absent) or any(verdict.fails_gate for verdict in verdicts)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench gateway", description="The gateway beside its peers.")
    parser.add_argument("--short", action="store_true", help="fewer requests, nginx alone beside it: under 90 s")
    parser.add_argument("--peers", metavar="NAMES", help=f"of {', '.join(PEERS)}, with commas (long form: all)")
    parser.add_argument(
        "--cases",
        metavar="NAMES",
        help="pass, capture64, capture16, exact, exact24, alone, stream, long, workers (all)",
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


def _data(found: Found, stand: Stand) -> dict[str, Any]:
    """Round by round, so that another reading of the same run is possible."""
    return {
        "machine": {"python": platform.python_version(), "kernel": platform.release(), "cpus": os.cpu_count()},
        "versions": {name: running.version for name, running in stand.stacks.items()},
        "missing": stand.missing,
        "figures": found.figures,
        "cases": [
            {
                "name": case.name,
                "title": case.title,
                "broken": case.broken,
                "between": case.between,
                "stacks": {
                    name: {
                        "cpu_us": case.cpu_us(name),
                        "p50_s": case.p50_s(name),
                        "first_p50_s": case.first_p50_s(name),
                        "requests_per_s": case.rate(name),
                        "errors": case.errors(name),
                    }
                    for name in case.reports
                },
            }
            for case in found.cases
        ],
        "long": [asdict(result) for result in found.long],
    }
