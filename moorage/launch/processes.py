"""Processes by identity: a pid counts only together with the moment it started.

Pids are reused, and after a reboot small ones always are; so an identity is pid, start time in clock ticks since boot,
and the boot's id (proc(5), fields 6 and 22 of /proc/PID/stat). Linux only: elsewhere nothing is ever found alive.
"""

from __future__ import annotations

import os
import signal
import time
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROC = "/proc"
KILL_S = 10.0
"""How long a killed process may take to be gone."""
BEGIN_S = 5.0
"""How long a process that was started may take to show its environment."""


class ProcessIdentity(namedtuple("ProcessIdentity", "pid started")):
    """One process, for as long as it exists: `pid: int`, and `started: str`, which is `BOOT:TICKS`."""

    __slots__ = ()

    def as_field(self) -> dict[str, Any]:
        """As it is kept in an entry."""
        return {"pid": self.pid, "started": self.started}


class ProcessStat(namedtuple("ProcessStat", "state session started threads")):
    """What /proc/PID/stat tells: `state: str` (one letter), `session: int`, `started: str` as in an identity, and
    `threads: int`."""

    __slots__ = ()

    @property
    def lives(self) -> bool:
        """Whether it has not ended. One whose first thread is a zombie lives, and holds its ports, until the last
        of its threads has ended."""
        return self.state not in "ZX" or self.threads > 1


def identity_of(pid: int) -> ProcessIdentity | None:
    """The identity of a living process; None when there is none."""
    found = read_stat(pid)
    return ProcessIdentity(pid, found.started) if found and found.lives else None


def identity_from(field: object) -> ProcessIdentity | None:
    """Read an entry's `{pid, started}`; None when it is something else."""
    if not isinstance(field, dict):
        return None
    pid, started = field.get("pid"), field.get("started")
    if isinstance(pid, int) and pid > 0 and isinstance(started, str):
        return ProcessIdentity(pid, started)
    return None


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs; a zombie does not."""
    return identity_of(identity.pid) == identity


def read_stat(pid: int, boot_id: str | None = None) -> ProcessStat | None:
    """Parse /proc/PID/stat; the command name may hold spaces and brackets, so fields count from the last one."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()
    started = f"{boot_id or read_boot_id()}:{int(fields[19])}"
    return ProcessStat(fields[0].decode(), int(fields[3]), started, int(fields[17]))


def start_ticks(started: str) -> int:
    """Clock ticks from boot to the start, out of an identity's `started`; -1 when it holds none."""
    ticks = started.rpartition(":")[2]
    return int(ticks) if ticks.isdecimal() else -1


def all_processes() -> dict[int, ProcessStat]:
    """Every process there is, in one look."""
    boot_id = read_boot_id()
    found = {int(name): read_stat(int(name), boot_id) for name in os.listdir(PROC) if name.isdigit()}
    return {pid: stat for pid, stat in found.items() if stat is not None}


def session_members(leader: ProcessIdentity, processes: dict[int, ProcessStat] | None = None) -> list[int]:
    """Pids of the living processes in the session that `leader` opened, also after the leader's death.

    A session id cannot be reused while the session has a member; if the pid belongs to another process now, the old
    session is over and nothing is ours. `processes` is a look taken before; None takes one.
    """
    processes = all_processes() if processes is None else processes
    now = processes.get(leader.pid)
    if now is not None and now.started != leader.started:
        return []
    return [
        pid
        for pid, found in processes.items()
        if found.session == leader.pid and found.lives and _not_before(found, leader)
    ]


def read_boot_id() -> str:
    """The first characters of this boot's id; `unknown` where the kernel tells none."""
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id") as file:
            return file.read().strip()[:8]
    except OSError:
        return "unknown"


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it cannot be read or was overwritten."""
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            data = file.read()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in data.split(b"\0") if b"=" in item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def await_begun(pid: int) -> ProcessIdentity | None:
    """The identity of a process just started, once others can read its environment; None when it has ended.

    The kernel shows the environment a moment after `Popen` returned: whoever looks for a mark in it just then would
    not find the process.
    """
    deadline = time.monotonic() + BEGIN_S
    while (identity := identity_of(pid)) is not None and not environment_of(pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    return identity


def end_session(leader: ProcessIdentity, *, grace_s: float) -> bool:
    """Ask every member of the session to end, then kill what is left. True when nothing is left."""
    return end_all(lambda: session_members(leader), grace_s=grace_s)


def end_all(find: Callable[[], list[int]], *, grace_s: float) -> bool:
    """Ask the processes that `find` finds to end, then kill what it still finds. True when it finds nothing more."""
    return _end(find, signal.SIGTERM, grace_s) or any(_end(find, signal.SIGKILL, KILL_S) for _ in range(3))


def end_process(identity: ProcessIdentity, *, grace_s: float) -> None:
    """End one process, if it is still that one."""
    if not is_alive(identity):
        return
    _signal([identity.pid], signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while is_alive(identity):
        if time.monotonic() > deadline:
            _signal([identity.pid], signal.SIGKILL)
            return
        time.sleep(0.02)


def _end(find: Callable[[], list[int]], number: signal.Signals, wait_s: float) -> bool:
    """Signal each process once, also one that a dying parent has forked meanwhile; True when none is left in time."""
    deadline = time.monotonic() + wait_s
    signalled: list[int] = []
    while found := find():
        new = [pid for pid in found if pid not in signalled]
        _signal(new, number)
        signalled += new
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
        _reap(signalled)
    _reap(signalled)
    return True


def _reap(pids: list[int]) -> None:
    """Collect our own dead children, so that they are no zombies; other processes are left alone."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except OSError:
            continue


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _not_before(found: ProcessStat, leader: ProcessIdentity) -> bool:
    same_boot = found.started.rpartition(":")[0] == leader.started.rpartition(":")[0]
    return same_boot and start_ticks(found.started) >= start_ticks(leader.started)
