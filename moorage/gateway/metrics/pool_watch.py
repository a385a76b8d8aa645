"""What is told of the pool. Counting costs the store work: it is done seldom, and the seldomer the longer it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from moorage.errors import MoorageError
from moorage.gateway.metrics.family import Family, gauge
from moorage.pool.contract import Store

__all__ = ["PoolWatch"]

AT_MOST_EVERY_S = 5.0
SHARE = 20
"""It is counted for at most one part in so many of the time."""
WAIT_S = 1.0
"""A scrape waits so long for new numbers; then it has the last ones."""
CHANNELS = 50
"""Clients name channels: the first so many get a label of their own."""
REST = "(others)"
"""No channel can be called so."""


class PoolWatch:
    """The last numbers, and when to count again."""

    def __init__(self, store: Store, *, n_rollouts: int) -> None:
        self._store = store
        self._n_rollouts = n_rollouts
        self._known: dict[str, None] = {}
        """Channels in the order in which they were seen: a label never goes to another channel."""
        self._groups: dict[tuple[str, ...], float] = {}
        self._trajectories: dict[tuple[str, ...], float] = {}
        self._steps: dict[tuple[str, ...], float] = {}
        self._due_at = 0.0
        self._counting: asyncio.Task[None] | None = None

    async def families(self) -> list[Family]:
        """The numbers as they were when last counted. Raises nothing: a store that is away leaves the old ones."""
        loop = asyncio.get_running_loop()
        if self._counting is None and loop.time() >= self._due_at:
            self._counting = loop.create_task(self._count(loop))
        if self._counting is not None:
            await asyncio.wait((self._counting,), timeout=WAIT_S)
        leased: dict[tuple[str, ...], float] = {}
        for (channel, state), many in self._groups.items():
            if state == "leased":
                leased[(channel,)] = many
        return [
            gauge("moorage_pool_groups", "Groups by state.", self._groups, *("channel", "state"), shared=True),
            gauge("moorage_pool_leases", "Leases that are out.", leased, "channel", shared=True),
            gauge(
                "moorage_pool_trajectories",
                "Trajectories by state.",
                self._trajectories,
                *("channel", "state"),
                shared=True,
            ),
            gauge("moorage_pool_steps", "Steps that can be leased or were.", self._steps, "channel", shared=True),
        ]

    async def close(self) -> None:
        """Count no more."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)

    async def _count(self, loop: asyncio.AbstractEventLoop) -> None:
        began = loop.time()
        try:
            self._take(await self._store.stats(None, self._n_rollouts))
        except MoorageError:
            pass  # the store's own numbers tell
        finally:
            now = loop.time()
            self._due_at = now + max(AT_MOST_EVERY_S, SHARE * (now - began))
            self._counting = None

    def _take(self, channels: Mapping[str, Any]) -> None:
        groups: dict[tuple[str, ...], float] = {}
        trajectories: dict[tuple[str, ...], float] = {}
        steps: dict[tuple[str, ...], float] = {}
        for name in sorted(channels):
            if name in self._known or len(self._known) < CHANNELS:
                self._known[name] = None
                label = name
            else:
                label = REST
            told = channels[name]
            _add(steps, (label,), told["steps"])
            for state, many in told["groups"].items():
                _add(groups, (label, state), many)
            for state, many in told["trajectories"].items():
                _add(trajectories, (label, state), many)
        self._groups, self._trajectories, self._steps = groups, trajectories, steps


def _add(counts: dict[tuple[str, ...], float], named: tuple[str, ...], many: float) -> None:
    counts[named] = counts.get(named, 0) + many
