"""Bytes both ways between a local connection and a stream."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from moorage.errors import MoorageError
from moorage.launch.tunnel.route import Stream

CHUNK_BYTES = 1 << 16


def pump(connection: socket.socket, stream: Stream) -> bool:
    """Run until both directions have ended, or one has failed; then both are closed. Whether anything came back.

    Each end is passed on by itself: a client that has sent all may still read for long.
    """
    up = threading.Thread(target=_send_up, args=(connection, stream), daemon=True)
    up.start()
    came = False
    try:
        while data := stream.recv(CHUNK_BYTES):
            came = True
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        up.join()
    except (OSError, EOFError, MoorageError):
        pass
    finally:
        _end(connection, stream)
    return came


def _send_up(connection: socket.socket, stream: Stream) -> None:
    try:
        while data := connection.recv(CHUNK_BYTES):
            stream.sendall(data)
        stream.shutdown_write()
    except (OSError, EOFError, MoorageError):
        _end(connection, stream)


def _end(connection: socket.socket, stream: Stream) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in recv
    connection.close()
    with suppress(OSError, EOFError, MoorageError):
        stream.close()
