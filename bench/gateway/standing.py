"""The stub and the stacks, up while they are measured and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.gateway.accounting import split_cpus
from bench.gateway.stacks import atropos, litellm, moorage, nginx, sketch, vllm_router
from bench.gateway.stacks.contract import PeerMissing, Place, Running, StartStack, free_port, run_stack

__all__ = ["PEERS", "Stand", "say", "standing"]

PEERS = ("vllm-router", "litellm", "atropos")
WORKERS = 4
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Stand:
    """What is up."""

    stub_port: int
    stacks: dict[str, Running]
    missing: dict[str, str]
    """Why the others are not."""


@contextlib.contextmanager
def standing(run: Path, model: Path, peers: list[str], *, workers: bool = False) -> Iterator[Stand]:
    """Everything on this machine, on its cores; `model` is the folder of the tokenizer.

    `workers`: also gateways with several workers, and over PostgreSQL.
    """
    stack_cpus, load_cpus = split_cpus(os.sched_getaffinity(0))
    os.sched_setaffinity(0, load_cpus)
    starts: dict[str, StartStack] = {
        "nginx": nginx.start,
        "moorage": moorage.start_passthrough,
        "moorage-exact": moorage.start_exact,
        "sketch": sketch.start,
        "vllm-router": partial(vllm_router.start, install=True),
        "litellm": partial(litellm.start, install=True),
        "atropos": partial(atropos.start, install=True),
    }
    databases = contextlib.ExitStack()
    if workers:
        starts |= {"moorage-4": partial(moorage.start_workers, workers=WORKERS), **_on_postgres(databases)}
    stacks: dict[str, Running] = {}
    missing = {name: "not asked for" for name in PEERS if name not in peers}
    port = free_port()
    stub_argv = [sys.executable, "-m", "bench.gateway.stub", "--port", str(port), "--model", str(model)]
    stub_place = Place(run / "stub", port, load_cpus, model)
    stub = run_stack(stub_argv, stub_place, port, ready="/health", within_s=60, env={"PYTHONPATH": str(ROOT)})
    try:
        for name in [name for name in starts if name not in missing]:
            say(f"starting {name}")
            try:
                stacks[name] = starts[name](Place(run / name, port, stack_cpus, model))
            except PeerMissing as fault:
                missing[name] = str(fault)
        yield Stand(port, stacks, missing)
    finally:
        for running in (*stacks.values(), stub):
            running.stop()
        databases.close()
        os.sched_setaffinity(0, stack_cpus | load_cpus)


def _on_postgres(databases: contextlib.ExitStack) -> dict[str, StartStack]:
    """The gateway over a PostgreSQL server of this run, with one worker and with several."""
    from tests.real.parts.absence import PartMissing
    from tests.real.parts.postgres import postgres_server

    def start(place: Place, *, workers: int) -> Running:
        try:
            server = databases.enter_context(postgres_server())
        except PartMissing as missing:
            raise PeerMissing(str(missing)) from None
        return moorage.start_workers(place, workers=workers, db=server.url(server.new_schema()))

    return {"moorage-postgres": partial(start, workers=1), "moorage-postgres-4": partial(start, workers=WORKERS)}


def say(words: str) -> None:
    """Of the progress, apart from the result."""
    print(words, file=sys.stderr, flush=True)
