"""One port for several processes: each listens on a socket of its own, and the kernel spreads connections over them.

A listening socket that all inherit is spread worse: an idle process that wakes first takes the whole of a burst. See
docs/scaling.md for what was measured.
"""

from __future__ import annotations

import socket

from moorage.errors import ConflictError

__all__ = ["bind_alone", "hold_port", "join_port"]


def bind_alone(host: str, port: int) -> socket.socket:
    """A socket that nobody else may share. Raises ConflictError for a port in use."""
    bound = _socket(host)
    try:
        bound.bind((host, port))
    except OSError as fault:
        bound.close()
        raise _taken(host, port, fault) from None
    return bound


def hold_port(host: str, port: int) -> socket.socket:
    """A socket that never listens and keeps the port for `join_port`; port 0 is any free one.

    Raises ConflictError for a port on which something listens, though it be another gateway of this user that shares
    its port among its own workers.
    """
    first = bind_alone(host, port)
    try:
        first.listen(1)  # refused when somebody listens; and whoever comes now is refused
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return join_port(host, first.getsockname()[1])
    except OSError as fault:
        raise _taken(host, port, fault) from None
    finally:
        first.close()


def join_port(host: str, port: int) -> socket.socket:
    """One more socket on a port that is held. Raises OSError."""
    bound = _socket(host)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _socket(host: str) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return bound


def _taken(host: str, port: int, fault: OSError) -> ConflictError:
    return ConflictError(
        f"port {port} on {host} cannot be used: {fault.strerror}",
        code="port_taken",
        hint=f"another gateway may have it: the same command with --port {port + 1}, or with --port 0 for any free one",
    )
