"""Tunnels as others see them: start, look, end. Each is a process of its own, known by pid and start time.

The environment of the process names the service (`MOORAGE_TUNNEL`), so that a tunnel is also found when nobody noted
its pid. Light: a listing imports it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import namedtuple
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from moorage.errors import FailedError, PortTaken, PreflightError
from moorage.launch.processes import (
    ProcessIdentity,
    all_processes,
    await_begun,
    end_session,
    environment_of,
    identity_from,
    identity_of,
    is_alive,
)
from moorage.launch.tunnel.spec import TunnelSpec
from moorage.launch.tunnel.state_file import (
    BROKEN,
    CONNECTING,
    log_path,
    open_log,
    read_state,
    state_path,
    tunnel_folder,
    write_state,
)

__all__ = [
    "Seen",
    "TunnelSpec",
    "end_tunnel",
    "ensure_tunnel",
    "see_tunnel",
    "start_again",
    "start_tunnel",
    "tunnel_now",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import Any

    from moorage.launch.entry import Entry

MARK = "MOORAGE_TUNNEL"
LOOPBACK = "127.0.0.1"
GRACE_S = 2.0
PORT_FREE_S = 5.0
WAITING_CONNECTIONS = 128
SECRET_ENDINGS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "ACCESS_KEY")
"""Of variable names: users may keep secrets in more variables than the references know."""


class Seen(namedtuple("Seen", "field runs")):
    """One tunnel, now: `field`, as `tunnel_now` says, and `runs: bool`, whether a process keeps it."""

    __slots__ = ()


def start_tunnel(spec: TunnelSpec, environ: Mapping[str, str]) -> dict[str, Any]:
    """Start one and return the entry's field `tunnel`. The local port is bound; the far end is not waited for.

    Raises PortTaken when the port cannot be bound, PreflightError when its log cannot be written.
    """
    with _listen(spec.local_port) as listener:
        identity = _spawn(spec, listener, environ)
    return {**identity.as_field(), "local_port": spec.local_port, "state": CONNECTING}


def tunnel_now(entry: Entry, environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The field as it is now: `state` (`up`, `connecting`, `broken`), `detail`, `since`, `target`.

    None when the entry has no tunnel and none of its service is found.
    """
    field: dict[str, Any] | None = see_tunnel(entry, environ).field
    return field


def see_tunnel(entry: Entry, environ: Mapping[str, str]) -> Seen:
    """The field as it is now, and whether the tunnel runs: one that does not can be had again by `ensure_tunnel`."""
    field = entry.get("tunnel")
    known = dict(field) if isinstance(field, dict) else {}
    found = _supervisors(entry)
    if not found:
        return Seen({**known, "state": BROKEN, "detail": "its process has ended"} if known else None, runs=False)
    port = {"local_port": entry.get("host_port")} if "local_port" not in known else {}
    kept = {name: known[name] for name in known if name not in ("detail", "since", "target")}
    now = read_state(state_path(str(entry["job_id"]), environ))
    return Seen({**kept, **port, **found[0].as_field(), **now}, runs=True)


def ensure_tunnel(spec: TunnelSpec, entry: Entry, environ: Mapping[str, str]) -> dict[str, Any]:
    """The field as it is now; a tunnel whose process has ended is started again. Raises nothing.

    Only for a service that lives and is not being stopped: see `launch.mending`.
    """
    if _supervisors(entry):
        return tunnel_now(entry, environ) or {}
    try:
        with _one_at_a_time(environ):
            if _supervisors(entry):  # someone else was quicker
                return tunnel_now(entry, environ) or {}
            return start_again(spec, environ)
    except (PortTaken, PreflightError, FailedError) as fault:
        return {"local_port": spec.local_port, "state": BROKEN, "detail": fault.message}


def end_tunnel(entry: Entry, environ: Mapping[str, str]) -> None:
    """End the service's tunnel, if it has one, with what it left. Raises FailedError when it does not go."""
    for identity in _supervisors(entry):
        if not end_session(identity, grace_s=GRACE_S):
            raise FailedError(f"the tunnel of {entry['job_id']} does not end: pid {identity.pid}")
    for path in (state_path(str(entry["job_id"]), environ), log_path(str(entry["job_id"]), environ)):
        with suppress(OSError):
            os.unlink(path)


def inherited(environ: Mapping[str, str], secret_names: list[str]) -> dict[str, str]:
    """The environment without secrets: what a tunnel, which lives long, passes on."""
    return {
        name: value
        for name, value in environ.items()
        if name not in secret_names and not name.upper().endswith(SECRET_ENDINGS) and name != "MOORAGE_LABEL"
    }


def start_again(spec: TunnelSpec, environ: Mapping[str, str]) -> dict[str, Any]:
    """As `start_tunnel`, after one that ended: a process holds its port for a moment longer than it seems to live."""
    deadline = time.monotonic() + PORT_FREE_S
    while True:
        try:
            return start_tunnel(spec, environ)
        except PortTaken:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextmanager
def _one_at_a_time(environ: Mapping[str, str]) -> Iterator[None]:
    """Among all commands of this user: two that miss a tunnel at once must not both start it."""
    import fcntl

    folder = tunnel_folder(environ)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise _not_written(folder, fault) from fault
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _listen(port: int) -> socket:
    import socket

    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(WAITING_CONNECTIONS)
    except OSError as fault:
        listener.close()
        raise PortTaken(f"port {port} of this machine is taken: {fault.strerror}") from fault
    return listener


def _spawn(spec: TunnelSpec, listener: socket, environ: Mapping[str, str]) -> ProcessIdentity:
    import subprocess

    log = _open_log(spec.job_id, environ)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "moorage.launch.tunnel.supervisor"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=_environment(spec.job_id, environ),
            cwd="/",
            start_new_session=True,
            umask=0o077,
            pass_fds=[listener.fileno()],
        )
    except OSError as fault:
        raise FailedError(f"the tunnel could not be started: {fault}") from fault
    finally:
        os.close(log)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as told:  # it may have ended at once
        told.write(json.dumps({**spec._asdict(), "listener": listener.fileno()}).encode())
    process.returncode = 0  # it is detached: nobody waits for it in a destructor
    identity = await_begun(process.pid)
    if identity is None:
        raise FailedError(
            f"the tunnel of {spec.job_id} ended at once", hint=f"{log_path(spec.job_id, environ)} may say why"
        )
    return identity


def _open_log(job_id: str, environ: Mapping[str, str]) -> int:
    path = log_path(job_id, environ)
    try:
        log = open_log(path)
        write_state(state_path(job_id, environ), {"state": CONNECTING})
    except OSError as fault:
        raise _not_written(path, fault) from fault
    return log


def _not_written(path: str, fault: OSError) -> PreflightError:
    return PreflightError(
        f"the tunnel's log cannot be written: {path}: {fault.strerror or fault}",
        code="log_not_written",
        hint="set XDG_STATE_HOME to a folder that you may write to",
    )


def _environment(job_id: str, environ: Mapping[str, str]) -> dict[str, str]:
    from moorage.catalog.bundle import bundle_root
    from moorage.catalog.catalog import load_catalog

    kept = inherited(environ, load_catalog(bundle_root(environ)).secret_names)
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    path = os.pathsep.join(part for part in (source, environ.get("PYTHONPATH")) if part)
    return {**kept, "PYTHONPATH": path, MARK: job_id}


def _supervisors(entry: Entry) -> list[ProcessIdentity]:
    """Living supervisors of this service: the one that the entry names, or those that carry its mark."""
    job_id = str(entry["job_id"])
    named = identity_from(entry.get("tunnel"))
    if named is not None and is_alive(named) and environment_of(named.pid).get(MARK) == job_id:
        return [named]
    leaders = [pid for pid, stat in all_processes().items() if stat.session == pid and stat.lives]
    found = [identity_of(pid) for pid in leaders if environment_of(pid).get(MARK) == job_id]
    return [identity for identity in found if identity is not None]
