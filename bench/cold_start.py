"""Cold start of `moor list --json` with 100 entries, against `python -c pass` and `kubectl version --client`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from bench.report import Result, Row, median, median_ratio

ENTRIES = 100
GATE_RATIO = 4.0
"""`moor list` takes at most this many times `python -c pass`."""


def measure(rounds: int = 15) -> Result:
    """Commands in turn, round by round; wall time of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        state_file = Path(folder) / "state.json"
        state_file.write_text(json.dumps(_state()))
        env = {**os.environ, "MOORAGE_STATE_FILE": str(state_file), "PYTHONDONTWRITEBYTECODE": ""}
        commands = _commands(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):  # the first round warms caches and is not counted
            for name, argv in commands.items():
                begun = time.perf_counter()
                subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                if number:
                    times[name].append(time.perf_counter() - begun)
    reference = times["python -c pass"]
    rows = [
        Row(name, median(found) * 1000, "ms", None if found is reference else median_ratio(found, reference))
        for name, found in times.items()
    ]
    figures = {name: median_ratio(found, reference) for name, found in times.items()}
    return Result(f"Cold start, {rounds} rounds in turn, medians (ratio to python -c pass)", rows, figures)


def _commands(folder: Path) -> dict[str, list[str]]:
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        f"moor list --json, {ENTRIES} entries": [str(Path(sys.executable).parent / "moor"), "list", "--json"],
    }
    kubectl = _debian_kubectl(folder)
    if kubectl:
        commands["kubectl version --client (Debian)"] = [str(kubectl), "version", "--client"]
    return commands


def _debian_kubectl(folder: Path) -> Path | None:
    """Debian's own kubectl, unpacked and not installed; None where it cannot be had."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    fetched = subprocess.run(["apt-get", "download", "-q", "kubernetes-client"], cwd=folder, capture_output=True)
    packages = list(folder.glob("kubernetes-client_*.deb"))
    if fetched.returncode != 0 or not packages:
        return None
    subprocess.run(["dpkg-deb", "-x", packages[0], folder / "kubernetes-client"], check=True)
    return folder / "kubernetes-client" / "usr" / "bin" / "kubectl"


def _state() -> dict[str, object]:
    """Entries as other tools write them, half of them containers and half processes; none is alive."""
    state: dict[str, object] = {}
    for index in range(ENTRIES):
        job_id = str(uuid.uuid4())
        platform = "local-docker" if index % 2 else "local-process"
        state[job_id] = {
            "job_id": job_id,
            "platform": platform,
            "network_arch": "vllm",
            "host_url": f"http://localhost:{8080 + index}",
            "host_port": 8080 + index,
            "started_at": f"2026-01-01T00:00:{index % 60:02d}+00:00",
            "state": "ready",
            **({"pid": 2**22 - index, "started": "0:1"} if platform == "local-process" else {}),
        }
        state["latest"] = job_id
    return state
