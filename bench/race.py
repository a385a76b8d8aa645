"""64 processes that each start one service against one state file: the platform is a stub, the registry is real."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.report import Result, Row
from moorage.launch.entry import Entry
from moorage.launch.plan import StartRequest
from moorage.launch.plane import Plane
from moorage.launch.platforms.base import Life
from moorage.launch.registry import Registry
from moorage.launch.start import start

PROCESSES = 64


class StubPlatform:
    """Accepts everything and runs nothing."""

    name = "local-docker"

    def plan(self, _submission: Any) -> dict[str, Any]:
        return {}

    def preflight(self, _submission: Any, **_options: Any) -> Entry:
        return {}

    def submit(self, _submission: Any) -> Entry:
        return {}

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        return {entry["job_id"]: Life(state="alive") for entry in entries}


def measure(rounds: int = 1) -> Result:
    """Starts a second over all processes, from the shot until the last one has ended."""
    seconds, ports, entries = 0.0, 0, 0
    for _ in range(rounds):
        took, found = _one_race()
        seconds += took
        entries += len(found)
        ports += len({entry["host_port"] for entry in found.values()})
    rate = PROCESSES * rounds / seconds
    rows = [
        Row("starts", rate, "/s"),
        Row("entries kept", entries / rounds, f"of {PROCESSES}"),
        Row("distinct ports", ports / rounds, f"of {PROCESSES}"),
    ]
    figures = {"starts_per_s": rate, "entries": entries / rounds, "distinct_ports": ports / rounds}
    return Result(f"{PROCESSES} processes, one state file, three locked writes a start", rows, figures)


def _one_race() -> tuple[float, dict[str, Entry]]:
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "MOORAGE_STATE_FILE": str(Path(folder) / "state.json")}
        runners = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.race"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for _ in range(PROCESSES)
        ]
        for runner in runners:
            assert runner.stdout is not None
            assert runner.stdout.readline() == b"ready\n"
        begun = time.perf_counter()
        for runner in runners:
            assert runner.stdin is not None
            runner.stdin.close()
        statuses = [runner.wait(120) for runner in runners]
        took = time.perf_counter() - begun
        assert not any(statuses), f"exit statuses: {statuses}"
        return took, Registry(Path(folder) / "state.json").read().services


def _run() -> None:
    """One runner: everything loaded, then wait for the shot (the end of standard input)."""
    plane = Plane(os.environ, platforms={"local-docker": StubPlatform()})  # type: ignore[dict-item]
    request = StartRequest(
        network_arch="vllm", model_path="hf_model://org/model", platform="local-docker", no_wait=True, gpus="none"
    )
    assert plane.catalog.archs
    print("ready", flush=True)
    sys.stdin.read()
    start(plane, request, lambda *_words, **_numbers: None)


if __name__ == "__main__":
    _run()
