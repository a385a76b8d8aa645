"""Fleets of stub engines for tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.state import EndpointState
from moorage.engines.wire.origin import Origin
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.engine_stub import EngineStub

CHAT = "/v1/chat/completions"
BODY = b'{"messages":[]}'


def stub(model: str = "stub") -> EngineStub:
    return EngineStub(CannedReplies(model, prompt_ids=4, sampled=3), models=(model,))


def endpoint(url: str, **fields: Any) -> Endpoint:
    return Endpoint(origin=Origin.parse(url), base_url=url, **fields)


@contextlib.asynccontextmanager
async def fleet_of(*stubs: EngineStub, silence_s: float = 30, **fields: Any) -> AsyncIterator[Fleet]:
    async with contextlib.AsyncExitStack() as stack:
        for one in stubs:
            await stack.enter_async_context(one)
        fleet = Fleet([endpoint(one.url, **fields) for one in stubs], clock=time.monotonic, silence_s=silence_s)
        await fleet.start()
        try:
            yield fleet
        finally:
            await fleet.close()


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def body(state: EndpointState) -> bytes:
    return BODY


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    """Health changes by the fleet's own clock: look now and then."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)
