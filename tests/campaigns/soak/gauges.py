"""What the operating system, the processes themselves and `/metrics` tell of a gateway at one moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateway.accounting import tree_cpu_s, tree_pids

__all__ = ["Reading", "metrics_of", "read_gauges"]

TOLD_WITHIN_S = 5.0
STORE_FILES = ("", "-wal", "-shm", "-stamps")


@dataclass(frozen=True)
class Reading:
    """Sums over all processes of the gateway, parents of workers and parsers included."""

    at: float
    """Of `time.monotonic`."""
    cpu_s: float
    resident_mb: float
    own_mb: float
    """Of the process that was started: the whole gateway but its parsers, where it has one worker."""
    store_mb: float
    """0 over PostgreSQL."""
    processes: int
    descriptors: Counter[str] = field(default_factory=Counter)
    """By what they are. `engine`: sockets to engines, and `store`: its files; both are kept for reuse."""
    threads: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    """asyncio's, by what they run."""


async def read_gauges(pid: int, probe: Path, db: Path | None, engine_ports: set[int]) -> Reading:
    """`probe`: the folder of `inside/sitecustomize.py`; `engine_ports`: where the engines listen."""
    pids = tree_pids(pid)
    tasks = await _tasks(pids, probe)
    engines = _sockets_to(engine_ports)
    found = Reading(
        at=time.monotonic(),
        cpu_s=tree_cpu_s(pid),
        resident_mb=sum(_status(one, "VmRSS:") for one in pids) / 1024,
        own_mb=_status(pid, "VmRSS:") / 1024,
        store_mb=_size_bytes(db) / 1e6,
        processes=len(pids),
        threads=sum(_status(one, "Threads:") for one in pids),
        tasks=tasks,
    )
    for one in pids:
        found.descriptors.update(_descriptors(one, engines, db))
    return found


def metrics_of(text: str) -> Counter[str]:
    """Sums by name over all labels, histograms' buckets left out."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        plain = name.partition("{")[0]
        if not line.startswith("#") and not plain.endswith("_bucket"):
            found[plain] += float(value)  # type: ignore[assignment]
    return found


async def _tasks(pids: list[int], probe: Path) -> Counter[str]:
    """Each process is asked by a signal; those without a probe, as a parser in another Python, have none to tell of."""
    waiting: dict[Path, int] = {}
    for pid in pids:
        file = probe / f"{pid}.json"
        if file.exists():
            waiting[file] = file.stat().st_ino
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
    found: Counter[str] = Counter()
    until = time.monotonic() + TOLD_WITHIN_S
    for file, inode in waiting.items():
        while file.stat().st_ino == inode and time.monotonic() < until:
            await asyncio.sleep(0.005)
        found.update(json.loads(file.read_text()).get("tasks", {}))
    return found


def _descriptors(pid: int, engines: set[str], db: Path | None) -> Counter[str]:
    found: Counter[str] = Counter()
    for place in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(place.readlink())
            kind, _, number = target.partition(":[")
            if kind == "socket" and number.rstrip("]") in engines:
                kind = "engine"
            elif db is not None and target.startswith(str(db)):
                kind = "store"
            found[kind if number or kind == "store" else "file"] += 1
    return found


def _sockets_to(ports: set[int]) -> set[str]:
    """Inodes of this machine's sockets whose other end is one of the ports."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[2].partition(":")[2], 16) in ports:
            found.add(words[9])
    return found


def _status(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def _size_bytes(db: Path | None) -> int:
    files = [] if db is None else [Path(f"{db}{end}") for end in STORE_FILES]
    return sum(file.stat().st_size for file in files if file.exists())
