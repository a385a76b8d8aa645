"""Login hosts of Slurm clusters: logged in to when they are needed, and kept open for the next question."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from moorage.errors import MoorageError, PlatformUnreachable, UsageError
from moorage.launch.platforms.slurm_options import login_target
from moorage.launch.remote.connect import connect
from moorage.launch.remote.host import Ran, RemoteHost
from moorage.launch.remote.target import RemoteTarget

CONNECT_S = 15.0
MARK = "=moorage"
SHELL = "/bin/sh -s"
"""Scripts go in by stdin: the user's own shell may be any, and nothing of them is in a process list."""


class Logins:
    """Connections by target. Close them with `close`; what is forgotten is closed in the end."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lock = threading.Lock()
        self._hosts: dict[RemoteTarget, RemoteHost] = {}
        self._end = weakref.finalize(self, _close_all, self._hosts)

    def host(self, target: RemoteTarget, *, connect_s: float = CONNECT_S) -> RemoteHost:
        """Logged in; a connection that was lost is made anew. Raises what `connect` raises."""
        with self._lock:
            known = self._hosts.get(target)
        if known is not None and known.is_alive():
            return known
        self._drop(target, known)
        return self._connect(target, connect_s)

    def ask(self, target: RemoteTarget, script: str, *, timeout_s: float, connect_s: float = CONNECT_S) -> Ran:
        """Run a script that may be run twice: on a connection that turns out to be lost, once more on a new one."""
        with self._lock:
            known = self._hosts.get(target)
        if known is not None:
            try:
                return run(known, script, timeout_s=timeout_s)
            except PlatformUnreachable:
                self._drop(target, known)
        return run(self._connect(target, connect_s), script, timeout_s=timeout_s)

    def close(self) -> None:
        self._end()

    def _connect(self, target: RemoteTarget, connect_s: float) -> RemoteHost:
        host = connect(target, self._environ, timeout_s=connect_s)
        with self._lock:
            known = self._hosts.setdefault(target, host)
        if known is not host:  # another thread was quicker
            host.close()
        return known

    def _drop(self, target: RemoteTarget, host: RemoteHost | None) -> None:
        if host is None:
            return
        with self._lock:
            if self._hosts.get(target) is host:
                del self._hosts[target]
        with suppress(MoorageError, OSError):
            host.close()


def run(host: RemoteHost, script: str, *, timeout_s: float) -> Ran:
    """Run a script of `slurm_commands`. What the user's own shell prints when it begins is not part of the answer."""
    ran = host.run(SHELL, stdin=f"echo {MARK}\n{script}".encode(), timeout_s=timeout_s)
    return ran._replace(out=ran.out.partition(f"{MARK}\n")[2])


def target_of(entry: Mapping[str, Any], environ: Mapping[str, str]) -> RemoteTarget:
    """Where the service's cluster is: as the entry says, else as the environment does. Raises PreflightError."""
    field = entry.get("remote")
    if isinstance(field, Mapping):
        with suppress(UsageError):  # a changed entry
            return RemoteTarget.from_dict(field)
    return login_target({}, environ)


def _close_all(hosts: dict[RemoteTarget, RemoteHost]) -> None:
    while hosts:
        with suppress(MoorageError, OSError):
            hosts.popitem()[1].close()
