"""Engines asked from the caller's own process: one fleet for each event loop, sessions for each tokenizer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moorage.client.in_process.embedded import Embedded
from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.servers_file import endpoints_of
from moorage.errors import UsageError

if TYPE_CHECKING:
    from moorage.client.sessions.config import APIServerConfig
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.reasoning.config import ReasoningConfig

__all__ = ["Engines"]


class Engines:
    """What a manager's servers are. Raises UsageError `bad_servers`, PreflightError for a key that is not there."""

    def __init__(
        self,
        configs: Sequence[APIServerConfig],
        *,
        reasoning: ReasoningConfig | None = None,
        patience_s: float = 30.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._endpoints = endpoints_of({"servers": [_fields(config, reasoning) for config in configs]})
        if not self._endpoints:
            raise UsageError("there are no servers", code="bad_servers", hint="give one APIServerConfig at least")
        self._patience_s, self._environ = patience_s, environ
        self._loops: dict[asyncio.AbstractEventLoop, _OfLoop] = {}
        self._idle: Fleet | None = self._fleet()
        """Made at once, so that a configuration that cannot be is refused at once; the first loop takes it."""

    def states(self) -> Sequence[EndpointState]:
        """The servers as they are in the running loop, or before any has begun."""
        return self._here().fleet.states() if _in_loop() else (self._idle or self._fleet()).states()

    async def sessions(self, tokenizer: Any = None) -> Embedded:
        """Where sessions with that tokenizer are made, started."""
        return await self._here().embedded(tokenizer)

    async def close(self) -> None:
        """Close what was opened in this loop."""
        here = self._loops.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.close()

    def _here(self) -> _OfLoop:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            self._loops = {one: what for one, what in self._loops.items() if not one.is_closed()}
            fleet, self._idle = self._idle or self._fleet(), None
            here = self._loops[loop] = _OfLoop(fleet, self._endpoints, self._patience_s)
        return here

    def _fleet(self) -> Fleet:
        return Fleet(self._endpoints, clock=time.monotonic, silence_s=1200.0, environ=self._environ)


class _OfLoop:
    def __init__(self, fleet: Fleet, endpoints: Sequence[Any], patience_s: float) -> None:
        self.fleet = fleet
        self._endpoints, self._patience_s = endpoints, patience_s
        self._made: dict[object, tuple[Any, asyncio.Task[Embedded]]] = {}
        """By tokenizer, which is kept so that its identity is nobody else's."""

    async def embedded(self, tokenizer: Any) -> Embedded:
        key = tokenizer if isinstance(tokenizer, str | None) else id(tokenizer)
        known = self._made.get(key)
        if known is None or (known[1].done() and (known[1].cancelled() or known[1].exception() is not None)):
            known = self._made[key] = (tokenizer, asyncio.ensure_future(self._start(tokenizer)))
        return await asyncio.shield(known[1])

    async def close(self) -> None:
        for _, task in self._made.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                await task.result().close()
            else:
                task.cancel()
        await self.fleet.close()

    async def _start(self, tokenizer: Any) -> Embedded:
        made = Embedded(self.fleet, self._endpoints, tokenizer, self._patience_s)
        await made.start()
        return made


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _fields(config: APIServerConfig, reasoning: ReasoningConfig | None) -> dict[str, Any]:
    """As the servers file has them."""
    fields = config.model_dump(exclude_none=True)
    if reasoning is not None and reasoning.enabled:
        said = {"enabled": True, "effort": reasoning.effort, "max_tokens": reasoning.max_tokens}
        fields["reasoning"] = {**said, "as_tokens": reasoning.as_tokens}
    return fields
