"""What is killed: the whole gateway, one of its workers, all of them, their parent, or the database under it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from typing import Protocol

from tests.campaigns.kills.clients import Clients
from tests.contract.gateway_process import GatewayProcess, wait_until
from tests.contract.gateway_workers import pids, runs, wait_until_gone
from tests.real.parts.postgres import Postgres

__all__ = ["VICTIMS", "Start", "Victim", "victim_of"]

Start = Callable[[int], GatewayProcess]
"""A gateway on that port; 0: any."""
DOWN_S = (0.0, 0.4)
"""How long the database is away."""


class Victim(Protocol):
    """Kills, and sees to it that the gateway can be asked again."""

    async def kill(self, gateway: GatewayProcess, clients: Clients, dice: random.Random) -> GatewayProcess:
        """The gateway that is there afterwards."""


class _WholeGateway:
    def __init__(self, start: Start) -> None:
        self._start = start

    async def kill(self, gateway: GatewayProcess, clients: Clients, dice: random.Random) -> GatewayProcess:
        del dice
        clients.up.clear()
        workers = pids(gateway).values()
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(wait_until_gone, *workers)
        return await asyncio.to_thread(self._start, gateway.port)


class _Parent:
    """Its workers drain: what was in flight is answered, and what comes then goes to the next gateway."""

    def __init__(self, start: Start) -> None:
        self._start = start

    async def kill(self, gateway: GatewayProcess, clients: Clients, dice: random.Random) -> GatewayProcess:
        del dice
        clients.up.clear()
        workers = pids(gateway).values()
        gateway.process.kill()
        await asyncio.to_thread(wait_until_gone, *workers)
        await asyncio.to_thread(gateway.kill)
        return await asyncio.to_thread(self._start, gateway.port)


class _OneWorker:
    async def kill(self, gateway: GatewayProcess, clients: Clients, dice: random.Random) -> GatewayProcess:
        del clients
        await asyncio.to_thread(wait_until, lambda: bool(_living(gateway)))
        os.kill(dice.choice(_living(gateway)), signal.SIGKILL)
        return gateway


class _AllWorkers:
    async def kill(self, gateway: GatewayProcess, clients: Clients, dice: random.Random) -> GatewayProcess:
        del clients, dice
        before = pids(gateway)
        for pid in _living(gateway):
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(wait_until, lambda: all(pid != before[worker] for worker, pid in pids(gateway).items()))
        return gateway


class _Database:
    def __init__(self, server: Postgres) -> None:
        self._server = server

    async def kill(self, gateway: GatewayProcess, clients: Clients, dice: random.Random) -> GatewayProcess:
        del clients
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(dice.uniform(*DOWN_S))
        self._server.start()  # not in a thread: the server is told to end with the thread that started it
        return gateway


VICTIMS = ("gateway", "worker", "all", "parent", "store")


def victim_of(what: str, start: Start, server: Postgres | None) -> Victim:
    """`what`: one of VICTIMS. `server`: where the store is in PostgreSQL."""
    if what == "store":
        assert server is not None, "only a database can be killed"
        return _Database(server)
    alone: dict[str, Victim] = {"worker": _OneWorker(), "all": _AllWorkers()}
    if what in alone:
        return alone[what]
    return {"gateway": _WholeGateway, "parent": _Parent}[what](start)


def _living(gateway: GatewayProcess) -> list[int]:
    """Workers that listen."""
    return [pid for pid in pids(gateway).values() if runs(pid)]
