"""Endpoints that are on no list any more and answer something still: it ends in peace, then they are let go."""

from __future__ import annotations

import asyncio

from moorage.engines.fleet.slots import Slots
from moorage.engines.fleet.state import EndpointState

__all__ = ["Farewells", "waited"]


class Farewells:
    """One task each."""

    def __init__(self) -> None:
        self._tasks: dict[EndpointState, asyncio.Task[None]] = {}

    def begin(self, state: EndpointState) -> None:
        """Nothing new goes there from now on; its connections are closed when nothing is under way. In a loop."""
        state.left = state.retired = state.draining = True
        self._tasks[state] = asyncio.get_running_loop().create_task(self._see_off(state))

    async def close(self) -> None:
        """Close their connections, whatever is under way."""
        for state, task in list(self._tasks.items()):
            task.cancel()
            await state.upstream.close()

    async def _see_off(self, state: EndpointState) -> None:
        await state.train.wait_until_quiet()
        await state.evaluation.wait_until_quiet()
        await state.upstream.close()
        del self._tasks[state]


async def waited(state: EndpointState, slots: Slots) -> bool:
    """Wait for a slot. False: the endpoint left meanwhile, and none is taken."""
    await slots.take()
    if state.left:
        slots.give()
        return False
    return True
