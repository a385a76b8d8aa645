"""Host ports: which one a new service takes.

The lowest port of the range that no entry holds, that was not tried, and that nothing on this machine listens on.
Entries of every platform count, since a tunnel's local port and a published port share one number space. An entry
holds its port until it is stopped or pruned.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from moorage.errors import ConflictError
from moorage.launch.entry import host_port_of


def choose_port(
    entries: Iterable[Mapping[str, Any]],
    *,
    first: int,
    last: int,
    is_free: Callable[[int], bool],
    tried: Collection[int] = (),
) -> int:
    """Pick the lowest usable port in [first, last]. Raises ConflictError when there is none."""
    held = {host_port_of(entry) for entry in entries}
    for port in range(first, last + 1):
        if port not in held and port not in tried and is_free(port):
            return port
    raise ConflictError(
        f"no free port from {first} to {last}: {len(held - {None})} are held by services in the registry, "
        "the others are in use on this machine",
        code="ports_exhausted",
        hint="forget dead services, stop one, or choose a port with --host-port",
        next=["moor prune", "moor list"],
    )


def check_port(port: int, entries: Iterable[Mapping[str, Any]], *, is_free: Callable[[int], bool]) -> None:
    """Raise ConflictError, naming the holder, when a port that the user chose is taken."""
    for entry in entries:
        if host_port_of(entry) == port:
            job_id = entry.get("job_id")
            raise ConflictError(
                f"--host-port {port} is held by the service {job_id}",
                code="port_taken",
                hint="leave --host-port away to get a free port, or stop that service",
                next=[f"moor stop {job_id}"],
            )
    if not is_free(port):
        raise ConflictError(
            f"--host-port {port} is in use by another program on this machine",
            code="port_taken",
            hint="leave --host-port away to get a free port",
        )


def port_is_free(port: int) -> bool:
    """Whether nobody has `port`, on loopback or on all addresses, IPv4 or IPv6.

    Binds without listening: with SO_REUSEADDR that fails exactly when someone listens, and two probes at once do not
    disturb each other. Servers that bind long before they listen (vLLM does) are found by binding without it, which
    fails too for a minute after connections were closed: then the system lists those, and they do not count.
    """
    everywhere = "0.0.0.0"  # noqa: S104 - a probe: nothing is served there
    places = ((socket.AF_INET, everywhere), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    if not all(_can_bind(family, address, port) for family, address in places):
        return False
    return _can_bind(socket.AF_INET, everywhere, port, alone=True) or has_connections(port, _connections())


def has_connections(port: int, table: str) -> bool:
    """Whether a table of the form of /proc/net/tcp (proc(5)) lists a socket of this local port."""
    ports = re.findall(r"^ *\d+: [0-9A-F]+:([0-9A-F]{4}) ", table, re.MULTILINE)
    return any(int(found, 16) == port for found in ports)


def _connections() -> str:
    table = ""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            table += Path(path).read_text(encoding="ascii")
    return table


def _can_bind(family: socket.AddressFamily, address: str, port: int, *, alone: bool = False) -> bool:
    try:
        probe = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return True  # no IPv6 here: nobody can listen on it
    with probe:
        if not alone:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            return False
        except OSError as fault:
            return fault.errno not in (98, 48)  # EADDRINUSE on Linux and BSD; other faults are not about the port
    return True
