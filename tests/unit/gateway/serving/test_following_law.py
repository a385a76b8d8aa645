"""Any sequence of feeds and requests, against engines some of which are dead.

No request reaches an endpoint that the feed does not give its model, and none fails that a listed endpoint of a ready
model could have served.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.state import EndpointState
from moorage.errors import MoorageError
from moorage.gateway.log import Log
from moorage.gateway.serving.accounts import Accounts
from moorage.gateway.serving.rations import Rations
from moorage.gateway.serving.serving import Serving
from tests.contract.platform_contract import free_port
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.engine_stub import EngineStub
from tests.unit.gateway.serving.feeds import fed, feed_of

CHAT = "/v1/chat/completions"
MODELS = ("a", "b")
ENGINES = 4
"""The last one is dead: nobody listens there."""

FEED = st.lists(st.sampled_from((None, *MODELS)), min_size=ENGINES, max_size=ENGINES)
"""Which model each engine serves."""
UNREADY = st.sets(st.sampled_from(MODELS))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), FEED, UNREADY),
        st.tuples(st.sampled_from(("ask", "stream")), st.sampled_from(MODELS), st.sampled_from((None, "s1", "s2"))),
        st.tuples(st.just("wait"), st.integers(0, 5), st.none()),
    ),
    max_size=25,
)


class World:
    """A fleet that follows, its engines, and what each feed allows."""

    def __init__(self, fleet: Fleet, serving: Serving, urls: list[str]) -> None:
        self.fleet, self.serving, self.urls = fleet, serving, urls
        self.version = 0
        self.owners: list[str | None] = [None] * ENGINES
        self.unready: set[str] = set(MODELS)
        self.feeds: list[tuple[list[str | None], set[str]]] = []
        self.failures: list[str] = []

    def feed(self, owners: list[str | None], unready: set[str]) -> None:
        self.version += 1
        self.owners, self.unready = owners, unready
        self.feeds.append((owners, unready))
        models = []
        for name in MODELS:
            urls = [url for url, owner in zip(self.urls, owners, strict=True) if owner == name]
            model = fed(name, *urls)
            models.append(model | ({"ready": False} if name in unready else {}))
        self.serving.take(feed_of(*models, version=self.version))

    def servable(self, name: str, since: int) -> bool:
        """Whether in every feed since then a living engine served it. `since`: how many feeds there were."""
        feeds = self.feeds[max(0, since - 1) :]
        return bool(feeds) and all(name in owners[:-1] and name not in unready for owners, unready in feeds)

    async def request(self, kind: str, name: str, session: str | None) -> None:
        since, alias = len(self.feeds), f"alice/{name}"

        def body(state: EndpointState) -> bytes:
            owner = self.owners[self.urls.index(state.endpoint.base_url)]
            if owner != name or name in self.unready:
                self.failures.append(f"{alias} was sent to {state.url}, which serves {owner}")
            there = state.name_for(alias)
            if there != f"alice-202601061235-{name}":
                self.failures.append(f"{alias} was called {there}")
            return json.dumps({"messages": [], "model": there}).encode()

        try:
            if kind == "ask":
                _, answer = await self.fleet.ask(CHAT, body, model=alias, session=session)
            else:
                _, streamed = await self.fleet.open(CHAT, body, model=alias, session=session)
                answer = streamed  # type: ignore[assignment]
                await streamed.read()
        except MoorageError as fault:
            if self.servable(name, since):
                self.failures.append(f"{alias} could have been served: {fault.code} {fault.message}")
        else:
            if answer.status != 200:
                self.failures.append(f"{alias} was answered {answer.status}")


async def no_pause(seconds: float) -> None:
    del seconds
    await asyncio.sleep(0)


async def run(steps: list[tuple[str, Any, Any]], dead: str) -> World:
    stubs = [EngineStub(CannedReplies("m", prompt_ids=4, sampled=2), models=("m",)) for _ in range(ENGINES - 1)]
    for stub in stubs:
        await stub.start()
    fleet = Fleet([], clock=time.monotonic, silence_s=20, sleep=no_pause)
    accounts = Accounts(Rations(time.monotonic), None)
    serving = Serving(
        "http://127.0.0.1:1", None, fleet=fleet, accounts=accounts, clock=time.monotonic, log=Log(io.StringIO())
    )
    world = World(fleet, serving, [*(stub.url for stub in stubs), dead])
    await fleet.start()
    requests = []
    try:
        for what, one, other in steps:
            if what == "feed":
                world.feed(one, other)
            elif what == "wait":
                for _ in range(one):
                    await asyncio.sleep(0)
            else:
                requests.append(asyncio.create_task(world.request(what, one, other)))
        async with asyncio.timeout(60):
            await asyncio.gather(*requests)
        for state in fleet.states():
            assert state.in_flight == 0
    finally:
        await serving.close()
        await fleet.close()
        for stub in stubs:
            await stub.close()
    return world


@given(STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_request_goes_astray_and_none_fails_for_nothing(steps: list[tuple[str, Any, Any]]) -> None:
    world = asyncio.run(run(steps, f"http://127.0.0.1:{free_port()}/v1"))
    assert not world.failures


def test_what_is_under_way_at_one_that_leaves_ends_in_peace() -> None:
    async def main() -> None:
        stub = EngineStub(CannedReplies("m", prompt_ids=4, sampled=50), models=("m",), pace_s=0.005)
        await stub.start()
        fleet = Fleet([], clock=time.monotonic, silence_s=20)
        accounts = Accounts(Rations(time.monotonic), None)
        serving = Serving(
            "http://127.0.0.1:1", None, fleet=fleet, accounts=accounts, clock=time.monotonic, log=Log(io.StringIO())
        )
        await fleet.start()
        serving.take(feed_of(fed("a", stub.url), version=1))
        state, streamed = await fleet.open(CHAT, lambda _: b'{"messages":[],"stream":true}', model="alice/a")
        serving.take(feed_of(fed("a"), version=2))
        assert state.left
        assert fleet.states() == []
        body = await streamed.read()
        assert body.endswith(b"data: [DONE]\n\n")
        await stub.until(lambda: stub.in_flight == 0)
        await serving.close()
        await fleet.close()
        await stub.close()

    asyncio.run(main())


def test_who_waits_in_line_at_one_that_leaves_goes_elsewhere() -> None:
    async def main() -> None:
        stubs = [EngineStub(CannedReplies("m", prompt_ids=4, sampled=3), models=("m",)) for _ in range(2)]
        for stub in stubs:
            await stub.start()
        fleet = Fleet([], clock=time.monotonic, silence_s=20)
        accounts = Accounts(Rations(time.monotonic), None)
        serving = Serving(
            "http://127.0.0.1:1", None, fleet=fleet, accounts=accounts, clock=time.monotonic, log=Log(io.StringIO())
        )
        await fleet.start()
        serving.take(feed_of(fed("a", stubs[0].url), version=1))
        [first] = fleet.states()
        held = [await first.train.take() for _ in range(first.train.limit)]
        waiting = asyncio.create_task(fleet.ask(CHAT, lambda _: b'{"messages":[]}', model="alice/a"))
        while first.train.busy == first.train.limit:
            await asyncio.sleep(0)
        serving.take(feed_of(fed("a", stubs[1].url), version=2))
        first.train.give()
        state, answer = await waiting
        assert answer.status == 200
        assert state.endpoint.base_url == stubs[1].url
        assert not stubs[0].requests
        for _ in held[1:]:
            first.train.give()
        await serving.close()
        await fleet.close()
        for stub in stubs:
            await stub.close()

    asyncio.run(main())
