"""A real vLLM with models/nano, started by the package's own `moor start`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT, Moor

__all__ = ["FLAGS", "running_engine"]

FLAGS = (
    *("--reasoning-parser", "qwen3", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    "--enable-scale-out",
)
"""vLLM's own."""

START_WITHIN_S = 600


@contextlib.contextmanager
def running_engine(folder: Path) -> Iterator[str]:
    """Its URL. The registry and the logs are in `folder`; a machine without vLLM gets `moor start`'s own words."""
    state = folder / "engine"
    state.mkdir(mode=0o700, exist_ok=True)
    moor = Moor({**os.environ, "MOORAGE_STATE_FILE": str(state / "state.json"), "XDG_STATE_HOME": str(state)})
    nano = ROOT / "models" / "nano"
    words = ("start", "--network-arch", "vllm", "--model-path", nano, "--wait", str(START_WITHIN_S), "--json")
    try:
        started = moor(*words, "--", *FLAGS, timeout=START_WITHIN_S + 60)
        if started.rc != 0:
            raise RuntimeError(f"vLLM did not start: {started.out} {started.err}")
        yield started.out["data"]["host_url"]
    finally:
        moor("stop", "--all", "--json")
