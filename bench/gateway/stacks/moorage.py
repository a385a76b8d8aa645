"""This package's gateway, with one worker or several, and a store on the disk or in PostgreSQL."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version

from bench.gateway.stacks.contract import Place, Running, free_port, run_stack

__all__ = ["start_exact", "start_passthrough", "start_workers"]


def start_passthrough(place: Place) -> Running:
    """Without a tokenizer: the engine renders the prompts."""
    return _start(place, ["--mode", "passthrough"])


def start_exact(place: Place) -> Running:
    """With the tokenizer: sampled ids are carried over."""
    return _start(place, ["--mode", "exact", "--tokenizer-path", str(place.model)])


def start_workers(place: Place, *, workers: int, db: str | None = None) -> Running:
    """As `start_passthrough`, with so many workers. `db`: a store's URL; None: a file."""
    return _start(place, ["--mode", "passthrough", "--workers", str(workers)], db)


def _start(place: Place, flags: list[str], db: str | None = None) -> Running:
    place.folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    store = place.folder / "store.db" if db is None else None
    argv = [
        *(sys.executable, "-m", "moorage.cli.main", "gateway", "--port", str(port)),
        *("--upstream", f"{place.upstream}/v1", "--db", db or f"sqlite:///{store}", *flags),
    ]
    running = run_stack(argv, place, port, ready="/ready", within_s=60, env={"PYTHONDONTWRITEBYTECODE": ""})
    return replace(running, store=store, version=version("moorage"))
