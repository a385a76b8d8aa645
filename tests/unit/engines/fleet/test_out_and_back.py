"""Endpoints that go out and come back, and what becomes of the sessions that live there."""

from __future__ import annotations

import asyncio
import time

import pytest

from moorage.engines.fleet.faults import NoUpstream
from moorage.engines.wire.faults import Broken, Unreachable
from tests.unit.engines.fleet.fleets import CHAT, body, endpoint, fleet_of, run, stub, until


class TestOutAndBack:
    def test_killed_out_back(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                (state,) = fleet.states()
                await fleet.ask(CHAT, body, session="s")
                port = one.port
                await one.close()
                with pytest.raises((Broken, Unreachable)):
                    await fleet.ask(CHAT, body, session="s")
                await until(lambda: not state.healthy)
                began = time.monotonic()
                with pytest.raises(NoUpstream) as caught:
                    await fleet.ask(CHAT, body, session="s")
                assert time.monotonic() - began < 2
                assert (caught.value.http_status, caught.value.data) == (503, {"retry_after_s": 2})
                with pytest.raises(NoUpstream):
                    fleet.settle("other")
                await one.start(port)
                await until(lambda: state.healthy, within_s=10)
                assert (await fleet.ask(CHAT, body, session="s"))[1].status == 200

        run(main)

    def test_sessions_move_when_their_home_is_out_and_pinned_ones_do_not(self) -> None:
        async def main() -> None:
            one, two = stub(), stub()
            async with fleet_of(one, two) as fleet:
                first, second = fleet.states()
                fleet.settle("pinned", pin=one.url)
                fleet.settle("free")
                fleet.settle("also free")
                assert fleet.home("also free") is first or fleet.home("free") is second
                await one.close()
                await until(lambda: not first.healthy)
                for name in ("free", "also free"):
                    assert (await fleet.ask(CHAT, body, session=name))[0] is second
                    assert fleet.home(name) is second
                with pytest.raises(NoUpstream):
                    await fleet.ask(CHAT, body, session="pinned")
                with pytest.raises(NoUpstream):
                    await fleet.ask(CHAT, body, pin=one.url)
                assert (first.sessions, second.sessions) == (1, 2)

        run(main)

    def test_one_that_is_down_at_the_start_is_known_to_be(self) -> None:
        async def main() -> None:
            async with fleet_of() as fleet:
                with pytest.raises(NoUpstream, match="configured"):
                    await fleet.ask(CHAT, body)
                await fleet.replace([endpoint("http://127.0.0.1:1/v1")])
                (state,) = fleet.states()
                assert not state.healthy
                assert state.health.reason is not None

        run(main)

    @pytest.mark.parametrize("how", ["any", "session", "pinned"])
    def test_one_that_came_up_since_its_last_probe_is_asked(self, how: str) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                (state,) = fleet.states()
                chosen = {"any": {}, "session": {"session": "s"}, "pinned": {"pin": one.url}}[how]
                await one.close()
                await until(lambda: not state.healthy)
                await one.start(one.port)
                state.saw("probe_refused", "as its last probe found it")
                replies = await asyncio.gather(*(fleet.ask(CHAT, body, **chosen) for _ in range(8)))
                assert {answer.status for _, answer in replies} == {200}

        run(main)

    def test_one_that_takes_connections_and_says_nothing_does_not_hold_a_refusal_up(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                await one.close()
                await until(lambda: not fleet.states()[0].healthy)
                deaf = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", one.port)
                began = time.monotonic()
                with pytest.raises(NoUpstream):
                    await fleet.ask(CHAT, body)
                assert time.monotonic() - began < 4
                deaf.close()

        run(main)

    def test_an_unhealthy_reply_three_times(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                (state,) = fleet.states()
                one.healthy = False
                await until(lambda: not state.healthy)
                assert state.health.reason == "/health answers 503"
                one.healthy = True
                await until(lambda: state.healthy)

        run(main)

    def test_without_health_checks_it_is_never_out(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one, health_check=False) as fleet:
                await one.close()
                for _ in range(2):
                    with pytest.raises((Unreachable, Broken)):
                        await fleet.ask(CHAT, body)
                assert fleet.states()[0].healthy

        run(main)
