"""All clients of a soak."""

from __future__ import annotations

import asyncio
import random

from tests.campaigns.soak.agents import AGENTS
from tests.campaigns.soak.load import Load
from tests.campaigns.soak.nuisances import NUISANCES, fail_engine
from tests.campaigns.soak.trainers import train
from tests.campaigns.soak.wire import Wire

__all__ = ["Crowd"]

TRAINERS = 2
PAUSE_S = 0.01
LOST_S = 0.2
FAULT_EACH_CALLS = 60
"""One model call of so many is spoiled by an engine."""


class Crowd:
    """So many agents and nuisances, and trainers beside them."""

    def __init__(self, load: Load, clients: int, dice: random.Random) -> None:
        self._load, self._clients, self._dice = load, clients, dice
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._load.ending.clear()
        work = [self._agent(self._seeded()) for _ in range(self._clients)]
        work += [self._trainer(self._seeded()) for _ in range(TRAINERS)]
        work += [self._spoiler(self._seeded())]
        self._tasks = [asyncio.create_task(one) for one in work]

    async def end(self) -> None:
        """Let each finish what it does; raises what one of them could not cope with."""
        self._load.ending.set()
        await asyncio.gather(*self._tasks)

    def _seeded(self) -> random.Random:
        return random.Random(self._dice.randrange(2**32))

    async def _agent(self, dice: random.Random) -> None:
        load, wire = self._load, Wire(self._load.port)
        kinds = {**AGENTS, **NUISANCES} if load.faulty else AGENTS
        while not load.ending.is_set():
            [work] = dice.choices([*kinds], [*kinds.values()])
            try:
                await work(load, wire, dice)
            except (OSError, EOFError):
                await asyncio.sleep(LOST_S)  # what was asked is a finding already
            await asyncio.sleep(PAUSE_S * dice.random())
        wire.close()

    async def _trainer(self, dice: random.Random) -> None:
        wire = Wire(self._load.port)
        while not self._load.ending.is_set():
            await train(self._load, wire, dice)
            await asyncio.sleep(PAUSE_S)
        wire.close()

    async def _spoiler(self, dice: random.Random) -> None:
        load = self._load
        if not load.faulty:
            return
        at = load.calls
        while not load.ending.is_set():
            await asyncio.sleep(0.1)
            while load.calls >= at:
                at += dice.randrange(1, 2 * FAULT_EACH_CALLS)
                await fail_engine(load, dice)
