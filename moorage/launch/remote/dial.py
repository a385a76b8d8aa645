"""Sockets that lead to an SSH server: over the network, or over a command's stdin and stdout."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping

SILENCE_MS = 20_000
"""How long sent bytes may stay unacknowledged before the kernel gives the connection up."""


def dial(host: str, port: int, *, timeout_s: float) -> socket.socket:
    """Connect to the first address of `host` that answers. Raises OSError."""
    way = socket.create_connection((host, port), timeout=timeout_s)
    way.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        way.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
    return way


def dial_command(command: str, environ: Mapping[str, str]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a ProxyCommand, as OpenSSH does: by the shell, which it replaces. It ends when the socket is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
    return ours, process
