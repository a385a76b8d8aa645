"""Accepting connections, and ending them: idle ones after a while, all of them when the gateway stops."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from moorage.gateway.http.connection import Connection

if TYPE_CHECKING:
    from moorage.gateway.http.app import App

__all__ = ["Listener"]

IDLE_S = 75.0
"""A connection on which nothing came or went for so long, and nothing is being answered, is closed."""
SWEEP_S = 5.0
BACKLOG = 2048


class Listener:
    """The server of one address."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, bound: socket.socket) -> None:
        """Accept on a socket that is bound."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._app, self, loop), sock=bound, backlog=BACKLOG)
        self._sweeper = loop.create_task(self._sweep(loop))

    async def drain(self, timeout_s: float) -> int:
        """Accept no more, let requests in hand end, then close; how many were broken off after `timeout_s`."""
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.close_when_idle()
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while any(connection.busy for connection in self.connections) and loop.time() < until:
            await asyncio.sleep(0.02)
        left = [connection for connection in self.connections if connection.busy]
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)
        return len(left)

    async def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            since = loop.time() - IDLE_S
            for connection in list(self.connections):
                if not connection.busy and connection.heard_at < since:
                    connection.abort()
