"""The least that a capturing gateway in Python can be (`bench.gateway.sketch`): a floor, not a peer."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.gateway.stacks.contract import Place, Running, free_port, run_stack

__all__ = ["start"]

ROOT = Path(__file__).resolve().parents[3]


def start(place: Place) -> Running:
    """With a store that nobody compares: what it promises is less than what the gateway's does."""
    place.folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = [
        *(sys.executable, "-m", "bench.gateway.sketch", "--port", str(port)),
        *("--upstream-port", str(place.upstream_port), "--db", str(place.folder / "sketch.db")),
    ]
    return run_stack(argv, place, port, ready="/health", within_s=20, env={"PYTHONPATH": str(ROOT)})
