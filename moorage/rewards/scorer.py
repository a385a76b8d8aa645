"""The reward functions of a gateway: started, asked by name, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from moorage.rewards.configured import Configured
from moorage.rewards.installed import unknown_reward
from moorage.rewards.sample import Sample
from moorage.rewards.worker.crew import Crew, Judged, Tell

__all__ = ["Scorer"]


class Scorer:
    """What `--reward` and `--reward-config` asked for. None configured: it does nothing at all."""

    def __init__(self, configured: Sequence[Configured], *, environ: Mapping[str, str], tell: Tell) -> None:
        """`tell(event, **fields)` is called when a function hangs or dies."""
        self._crews = {one.name: Crew(one, environ, tell) for one in configured}

    @property
    def names(self) -> list[str]:
        """The default first; empty: none is configured."""
        return list(self._crews)

    async def start(self) -> None:
        """Start a process of each. Raises what the first one that cannot run says; then none is left running."""
        starts = [crew.start() for crew in self._crews.values()]
        faults = [one for one in await asyncio.gather(*starts, return_exceptions=True) if one is not None]
        if faults:
            await self.close()
            raise faults[0]

    async def judge(self, name: str | None, sample: Sample) -> Judged:
        """`name` None: the default. Raises UsageError `reward_unknown`, and what the function's run raises."""
        crew = self._crews.get(self.names[0] if name is None else name)
        if crew is None:
            raise unknown_reward(str(name), self.names)
        return await crew.judge(sample)

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(crew.close() for crew in self._crews.values()))
