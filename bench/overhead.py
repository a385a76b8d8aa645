"""What `moor start` adds to an engine's own start: measured within one start, so the engine's own time cancels out.

A watcher asks the engine every 10 ms. The overhead is the time from typing the command until the engine's process
runs, and from the engine's first good answer until the command returns.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.report import Result, Row, median

GATE_S = 1.0
WATCH_EVERY_S = 0.01
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def measure(rounds: int = 1) -> Result:
    """With the real vLLM of this machine and the model of `moor quickstart` (BENCH_MODEL names another)."""
    before, after, engine = [], [], []
    for _ in range(rounds):
        found = one_start(["--network-arch", "vllm", "--model-path", _model()], "/v1/models")
        before.append(found["before_s"])
        after.append(found["after_s"])
        engine.append(found["engine_s"])
    total = median([sum(pair) for pair in zip(before, after, strict=True)])
    rows = [
        Row("engine's own start", median(engine), "s"),
        Row("moor, before the engine runs", median(before), "s"),
        Row("moor, after the engine is ready", median(after), "s"),
    ]
    return Result("moor start: what it adds to the engine's own start", rows, {"overhead_s": total})


def one_start(flags: list[str], path: str) -> dict[str, float]:
    """Start, watch and stop one service on a port of its own; seconds by part."""
    port = _free_port()
    argv = [sys.executable, "-m", "moorage.cli.main"]
    typed = time.time()
    command = subprocess.Popen(
        [*argv, "start", *flags, "--host-port", str(port), "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    ready = _watch(f"http://127.0.0.1:{port}{path}", command)
    output, _ = command.communicate()
    returned = time.time()
    entry = json.loads(output)["data"]
    runs = _process_began(entry["pid"])
    subprocess.run([*argv, "stop", entry["job_id"], "--json"], check=True, stdout=subprocess.DEVNULL)
    return {"before_s": max(0.0, runs - typed), "after_s": max(0.0, returned - ready), "engine_s": ready - runs}


def _watch(url: str, command: subprocess.Popen[bytes]) -> float:
    while command.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return time.time()
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(WATCH_EVERY_S)
    raise RuntimeError(f"moor start ended with {command.returncode} before the engine answered")


def _process_began(pid: int) -> float:
    """Seconds since the epoch (proc(5): uptime, and field 22 of stat, in ticks since boot)."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - uptime + ticks / TICKS_PER_S


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _model() -> str:
    if os.environ.get("BENCH_MODEL"):
        return os.environ["BENCH_MODEL"]
    nano = Path(__file__).parent.parent / "models" / "nano"
    if (nano / "config.json").exists():
        return str(nano)
    raise RuntimeError("set BENCH_MODEL to a folder with a model")
