"""A wire between a store and its server that is cut, or goes dead, at a word of the client's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 1 << 16


class Wire:
    """Listens on `port` and passes on to the server. Connections of before a change of `dead` feel it too."""

    def __init__(self, server: int) -> None:
        self.cut_at: bytes | None = None
        """The connection whose client says this is cut, once."""
        self.delivers = False
        """Whether the server still hears the word at which it is cut."""
        self.dead = threading.Event()
        """Nothing passes any more, and nobody is told."""
        self.refuses = False
        self.cuts = 0
        self._server = server
        self._open: set[socket.socket] = set()
        self._left: set[socket.socket] = set()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(50)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_all(self) -> None:
        """As when a cable is pulled, and somebody says so."""
        for one in list(self._open):
            _end(one)

    def close(self) -> None:
        _end(self._listener)
        self.cut_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refuses:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open |= {client, server}
                threading.Thread(target=self._up, args=[client, server], daemon=True).start()
                threading.Thread(target=self._down, args=[client, server], daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(PIECE):
                word = self.cut_at
                if word is not None and word in piece:
                    self.cut_at = None
                    if self.delivers:
                        # The server is left to itself: cut off as well, it might not read what it was sent.
                        self._left.add(server)
                        self._open.discard(server)
                        server.sendall(piece)
                        _end(client)
                        self.cuts += 1
                        return
                    self.cuts += 1
                    break
                if not self.dead.is_set():
                    server.sendall(piece)
        _end(client)
        _end(server)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := server.recv(PIECE):
                if not self.dead.is_set() and server not in self._left:
                    client.sendall(piece)
        _end(client)
        _end(server)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def wire_to(server: int) -> Iterator[Wire]:
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.close()
