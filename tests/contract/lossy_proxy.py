"""A way to a Docker engine that loses one answer: the engine did what it was asked, and the asker never knows."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIECE = 1 << 16


@contextmanager
def lossy_proxy(engine_socket: Path, folder: Path, *, lose: bytes) -> Iterator[str]:
    """Pass everything on until a request holds `lose`: then cut the connection when its answer comes. Gives the URL."""
    path = folder / "lossy.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    threading.Thread(target=_accept, args=[listener, engine_socket, lose], daemon=True).start()
    try:
        yield f"unix://{path}"
    finally:
        listener.close()


def _accept(listener: socket.socket, engine_socket: Path, lose: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            asker, _ = listener.accept()
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(str(engine_socket))
            losing = threading.Event()
            threading.Thread(target=_pass_requests, args=[asker, engine, lose, losing], daemon=True).start()
            threading.Thread(target=_pass_answers, args=[engine, asker, losing], daemon=True).start()


def _pass_requests(asker: socket.socket, engine: socket.socket, lose: bytes, losing: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while piece := asker.recv(PIECE):
            if lose in piece:
                losing.set()
            engine.sendall(piece)
        engine.shutdown(socket.SHUT_WR)


def _pass_answers(engine: socket.socket, asker: socket.socket, losing: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while (piece := engine.recv(PIECE)) and not losing.is_set():
            asker.sendall(piece)
        asker.shutdown(socket.SHUT_RDWR)
