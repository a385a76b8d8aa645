"""Accepting connections, up to a number, and ending them: those that do not move, and all when the gateway stops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from moorage.gateway.http.connection import Connection

if TYPE_CHECKING:
    from moorage.gateway.http.app import App

__all__ = ["Listener"]

SWEEP_S = 5.0
BACKLOG = 2048
REFUSALS = 100
"""Connections beyond the limit that are told so, at once; more are closed without a word."""
GRACE_S = 0.25
"""When the gateway stops, a request that was on its way on a kept connection is answered still."""
TIDY_S = 5.0
"""What was broken off has so long to record what it has."""


class Listener:
    """The server of one address."""

    def __init__(
        self, app: App, *, max_connections: int = 20_000, client_timeout_s: float = 30.0, idle_timeout_s: float = 75.0
    ) -> None:
        self._app = app
        self.connections: set[Connection] = set()
        self.refused = 0
        """Connections beyond `max_connections`."""
        self.ended = {"head": 0, "body": 0, "reader": 0, "idle": 0}
        """Connections that were ended for what did not come in time, or was not taken."""
        self._max_connections = max_connections
        self._client_timeout_s = client_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._refusing: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, bound: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept on a socket that is bound; `tls`: None for plain HTTP."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._app, self, loop),
            sock=bound,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=self._client_timeout_s if tls is not None else None,
        )
        self._sweeper = loop.create_task(self._sweep(loop))

    def take(self, connection: Connection) -> bool:
        """Whether there is room for one more; there is not, it is to be told and closed."""
        if len(self.connections) < self._max_connections:
            self.connections.add(connection)
            return True
        self.refused += 1
        if len(self._refusing) >= REFUSALS:
            connection.abort()
        else:
            self._refusing.add(connection)
        return False

    def lost(self, connection: Connection) -> None:
        """It is closed."""
        self.connections.discard(connection)
        self._refusing.discard(connection)

    async def drain(self, timeout_s: float) -> int:
        """Accept no more, let requests in hand end, then close; how many were broken off after `timeout_s`."""
        loop = asyncio.get_running_loop()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_soon()
        until = loop.time() + timeout_s
        await _until(lambda: not self.connections, min(GRACE_S, timeout_s))
        for connection in list(self.connections):
            connection.close_when_idle()
        await _until(lambda: not any(connection.busy for connection in self.connections), until - loop.time())
        if self._sweeper is not None:
            self._sweeper.cancel()
        left = [connection for connection in self.connections if connection.busy]
        for connection in list(self.connections):
            connection.abort()
        await _until(lambda: not any(connection.busy for connection in left), TIDY_S)
        return len(left)

    async def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        shortest_s = min(self._client_timeout_s, self._idle_timeout_s)
        while True:
            await asyncio.sleep(min(SWEEP_S, shortest_s / 4))
            now = loop.time()
            for connection in list(self.connections):
                try:
                    why = connection.look(now, client_s=self._client_timeout_s, idle_s=self._idle_timeout_s)
                except Exception:  # of a connection that is half gone: the others are looked at all the same
                    connection.abort()
                    continue
                if why is not None:
                    self.ended[why] += 1


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while not condition() and loop.time() < until:
        await asyncio.sleep(0.01)
