"""Names for those who hold the lease, by which the next one on the same machine can tell that a holder is gone.

A process that was killed gives nothing back. The one that is started in its place need not wait for the lease to run
out, when it can be sure: the name says in which PID namespace of which boot the process lived, and when it was born.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["holder_name", "is_gone"]

PROC = Path("/proc")
STATE, THREADS, BORN = 0, 17, 19
"""Of what stands in `stat` behind the program's name."""
NAME = re.compile(r"\S+ pid=([0-9]+) born=([0-9]+) in=(\S+)", re.ASCII)


def holder_name(host: str, distinct: str, proc: Path = PROC) -> str:
    """Of this process. `distinct`: unlike any other's. Without /proc nobody can tell later that it is gone."""
    pid, place = os.getpid(), _place(proc)
    fields = _stat(pid, proc)
    if place is None or fields is None:
        return f"{host}-{pid}-{distinct}"
    return f"{host}-{distinct} pid={pid} born={fields[BORN]} in={place}"


def is_gone(holder: str, proc: Path = PROC) -> bool:
    """Whether that process is over for certain. False when it runs, is stopped, or lives where nobody here can look."""
    found = NAME.fullmatch(holder)
    if found is None or found[3] != _place(proc):
        return False
    pid = int(found[1])
    try:
        (proc / str(pid)).stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    fields = _stat(pid, proc)
    if fields is None:
        return False
    is_over = fields[STATE] in ("Z", "X") and int(fields[THREADS]) <= 1
    return is_over or int(fields[BORN]) != int(found[2])


def _place(proc: Path) -> str | None:
    """Within it a PID means one process at a time; None: nothing tells."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{(proc / 'self/ns/pid').readlink()}"
    except (OSError, ValueError):
        return None


def _stat(pid: int, proc: Path) -> list[str] | None:
    """The fields of its `stat` from the state on; None: nothing tells."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields if len(fields) > BORN and fields[BORN].isdecimal() and fields[THREADS].isdecimal() else None
