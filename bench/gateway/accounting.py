"""What the operating system counted."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

__all__ = ["median_fdatasync_s", "split_cpus", "tree_cpu_s", "tree_pids"]

CPUCLOCK_SCHED = 2


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and all below it, threads that have ended included (clock_getcpuclockid(3))."""
    return sum(_cpu_s(found) for found in tree_pids(pid))


def tree_pids(pid: int) -> list[int]:
    """The process, its children, theirs."""
    found = [pid]
    for task in _tasks(pid):
        for child in (task / "children").read_text().split():
            found += tree_pids(int(child))
    return found


def split_cpus(available: set[int]) -> tuple[set[int], set[int]]:
    """The core of the stack under test, and those of the load and the stub; the same ones where there is only one."""
    if len(available) == 1:
        return available, available
    first = min(available)
    return {first}, available - {first}


def median_fdatasync_s(folder: Path, record_bytes: int, times: int) -> float:
    """The median time to append one record to a file here and to see it on the disk."""
    path = folder / "fdatasync"
    took = []
    record = os.urandom(record_bytes)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(times):
            os.write(descriptor, record)
            begun = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(took)


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _cpu_s(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)
