"""The command line of the measurements; see `bench`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench import cold_start, overhead, race
from bench.report import Result, draw_svg, print_table

MEASUREMENTS = {"list": cold_start.measure, "race": race.measure, "overhead": overhead.measure}
OTHERS = {"many": "bench.many", "serving": "bench.serving.measuring", "serving-hop": "bench.serving_hop"}
EPILOG = "gateway is measured apart and has flags of its own: python -m bench gateway --help"


def main() -> None:
    if sys.argv[1:2] == ["gateway"]:  # has flags of its own, and needs packages that the others do not
        from bench.gateway.command import main as gateway

        raise SystemExit(gateway(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=EPILOG)
    parser.add_argument("what", choices=[*MEASUREMENTS, *OTHERS])
    parser.add_argument("--rounds", type=int, help="how often (each has its own default)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the result")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    args = parser.parse_args()
    measure = MEASUREMENTS.get(args.what) or _other(args.what)
    result = measure(rounds=args.rounds) if args.rounds else measure()
    print(json.dumps(result.as_data()) if args.json else print_table(result))
    if args.svg:
        args.svg.write_text(draw_svg(result))


def _other(what: str) -> Callable[..., Result]:
    """They need packages that the others do not."""
    measure: Callable[..., Result] = import_module(OTHERS[what]).measure
    return measure


if __name__ == "__main__":
    main()
