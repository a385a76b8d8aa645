"""The command line of the campaigns; see `tests.campaigns`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from tests.campaigns.findings import Findings
from tests.campaigns.kills.victims import VICTIMS
from tests.campaigns.telling import Watch, telling

NUMBERS = {"conversations": 200, "kills": 20, "soak": 60, "flapping": 1000, "ray": 12}
STORES = ("sqlite", "postgres")
NANO = Path(__file__).resolve().parents[2] / "models" / "nano"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns")
    parser.add_argument("campaign", choices=NUMBERS)
    parser.add_argument("--number", type=int, help="how many (conversations 200, kills 20, flapping 1000, ray 12)")
    parser.add_argument("--minutes", type=float, help="soak: how long (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="what a table shows, to do it again")
    parser.add_argument("--engine", metavar="URL", help="conversations: a vLLM that serves models/nano already")
    parser.add_argument("--what", choices=VICTIMS, default="gateway", help="kills: what is killed")
    parser.add_argument("--workers", type=int, default=1, help="kills, soak: of the gateway")
    parser.add_argument("--db", default="sqlite", help="kills, soak: sqlite, or postgres; soak: also a store's URL")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="leave the stores here")
    options = parser.parse_args()
    if options.db not in STORES and options.campaign != "soak":
        parser.error(f"--db {options.db}: sqlite or postgres")
    number = options.number or NUMBERS[options.campaign]
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    kept = nullcontext(str(options.keep)) if options.keep is not None else tempfile.TemporaryDirectory()
    with kept as folder, telling(Console(stderr=True)) as watch:
        findings = _run(options, number, Path(folder), watch)
    sys.stdout.write(findings.table() + "\n")
    return 1 if findings.faults else 0


def _run(options: argparse.Namespace, number: int, folder: Path, watch: Watch) -> Findings:
    if options.campaign == "kills":
        from tests.campaigns.kills.campaign import run_kills
        from tests.real.parts.postgres import postgres_server

        where = postgres_server() if options.db == "postgres" or options.what == "store" else None
        with where or nullcontext() as server:
            return run_kills(
                folder,
                number=number,
                seed=options.seed,
                what=options.what,
                workers=options.workers,
                server=server,
                watch=watch,
            )
    if options.campaign == "flapping":
        from tests.campaigns.flapping.campaign import run_flapping

        return run_flapping(folder, number=number, seed=options.seed, nano=NANO, watch=watch)
    if options.campaign == "ray":
        from tests.campaigns.ray.campaign import run_ray

        return run_ray(folder, number=number, seed=options.seed, nano=NANO, watch=watch)
    if options.campaign == "soak":
        return _soak(options, number, folder)
    from tests.campaigns.conversations.campaign import run_conversations
    from tests.campaigns.conversations.engine import running_engine

    if options.engine:
        return run_conversations(folder, options.engine, number=number, seed=options.seed, watch=watch)
    with running_engine(folder) as url:
        return run_conversations(folder, url, number=number, seed=options.seed, watch=watch)


def _soak(options: argparse.Namespace, number: int, folder: Path) -> Findings:
    from tests.campaigns.soak.campaign import SoakPlan, run_soak
    from tests.real.parts.postgres import postgres_server

    db = None if options.db in STORES else options.db
    plan = SoakPlan(minutes=options.minutes or number, workers=options.workers, db=db)
    with postgres_server() if options.db == "postgres" else nullcontext() as server:
        return run_soak(folder, plan, seed=options.seed, server=server)


if __name__ == "__main__":
    sys.exit(main())
