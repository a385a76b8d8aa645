"""The fleet against stub engines: where requests go, what is tried again, what is out and back, what drains."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from moorage.engines.fleet.faults import NoUpstream
from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.state import EndpointState
from moorage.engines.wire.faults import Broken, Silent
from moorage.errors import NotFoundError
from tests.stand_ins.engine_stub import Fault
from tests.unit.engines.fleet.fleets import CHAT, body, endpoint, fleet_of, run, stub


class TestWhere:
    def test_sessions_spread_and_stay(self) -> None:
        async def main() -> None:
            one, two = stub(), stub()
            async with fleet_of(one, two) as fleet:
                homes = {name: fleet.settle(name).url for name in "abcdefgh"}
                assert sorted(Counter(homes.values()).values()) == [4, 4]
                for name in "abcdefghabcdefgh":
                    state, answer = await fleet.ask(CHAT, body, session=name)
                    assert (state.url, answer.status) == (homes[name], 200)
                assert (len(one.requests), len(two.requests)) == (8, 8)
                for name in "abcdefgh":
                    fleet.forget(name)
                assert [state.sessions for state in fleet.states()] == [0, 0]

        run(main)

    def test_sessions_that_were_not_settled_spread_too(self) -> None:
        async def main() -> None:
            async with fleet_of(stub(), stub()) as fleet:
                seen = Counter([(await fleet.ask(CHAT, body, session=name))[0].url for name in "abcd"])
                assert sorted(seen.values()) == [2, 2]

        run(main)

    def test_pinned_by_any_spelling(self) -> None:
        async def main() -> None:
            one, two = stub(), stub()
            async with fleet_of(one, two) as fleet:
                for spelling in (two.url, two.url + "/", two.url.removesuffix("/v1")):
                    assert fleet.settle("s", pin=spelling).url == fleet.states()[1].url
                    await fleet.ask(CHAT, body, pin=spelling)
                assert (len(one.requests), len(two.requests)) == (0, 3)
                for unknown in ("http://127.0.0.1:1/v1", "nonsense"):
                    with pytest.raises(NotFoundError) as caught:
                        fleet.settle("s", pin=unknown)
                    assert caught.value.data == {"base_urls": [one.url, two.url]}

        run(main)

    def test_by_model_and_told_by_the_endpoints_own_name(self) -> None:
        async def main() -> None:
            one, two = stub("x"), stub("y")
            async with fleet_of(one, two) as fleet:
                assert fleet.models() == ["x", "y"]

                def named(state: EndpointState) -> bytes:
                    return f'{{"model":"{state.name_for("y")}"}}'.encode()

                state, _ = await fleet.ask(CHAT, named, model="y")
                assert (state.url, two.requests[0].json()) == (fleet.states()[1].url, {"model": "y"})
                assert state.max_model_len == 32768
                with pytest.raises(NotFoundError) as caught:
                    await fleet.ask(CHAT, named, model="z")
                assert (caught.value.code, caught.value.data) == ("model_not_found", {"models": ["x", "y"]})
                for name in (None, "", "default"):
                    assert (await fleet.ask(CHAT, named, model=name))[1].status == 200

        run(main)

    def test_a_configured_name_that_is_not_the_served_one_still_works(self) -> None:
        async def main() -> None:
            async with fleet_of(stub("served"), model_name="configured") as fleet:
                (state,) = fleet.states()
                assert (state.name_for("configured"), state.name_for(None)) == ("served", "served")
                assert (await fleet.ask(CHAT, body, model="configured"))[1].status == 200

        run(main)

    def test_a_model_that_was_loaded_just_now_is_found(self) -> None:
        async def main() -> None:
            one = stub("x")
            clock = [0.0]
            async with one:
                fleet = Fleet([endpoint(one.url)], clock=lambda: clock[0], silence_s=30)
                await fleet.start()
                one.models = ("x", "adapter")
                clock[0] = 2.0
                assert (await fleet.ask(CHAT, body, model="adapter"))[1].status == 200
                await fleet.close()

        run(main)


class TestHeaders:
    def test_what_goes_along(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one, api_key="k-1") as fleet:
                given = [(b"authorization", b"Bearer gateway"), (b"cookie", b"c"), (b"x-request-id", b"7")]
                await fleet.ask(CHAT, body, headers=given)
                await fleet.ask(CHAT, body, headers=[(b"content-type", b"text/x")])
            first, second = one.requests
            assert first.headers["authorization"] == "Bearer k-1"
            assert (first.headers["x-request-id"], first.headers["content-type"]) == ("7", "application/json")
            assert "cookie" not in first.headers
            assert second.headers["content-type"] == "text/x"

        run(main)


class TestRetries:
    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("fault", [Fault("status", 500), Fault("status", 503), Fault("close"), Fault("garbage")])
    def test_what_may_pass_is_asked_again(self, fault: Fault, streamed: bool) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                one.faults.append(fault)
                if streamed:
                    _, answer = await fleet.open(CHAT, lambda state: b'{"stream":true}')
                    assert b"[DONE]" in await answer.read()
                else:
                    _, answer = await fleet.ask(CHAT, body)
                assert (answer.status, len(one.requests)) == (200, 2)
                assert fleet.states()[0].in_flight == 0

        run(main)

    @pytest.mark.parametrize("status", [400, 404, 408, 422, 429, 501])
    def test_what_will_not_pass_is_asked_once_and_kept(self, status: int) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                one.faults.append(Fault("status", status, {"error": {"message": "so"}}, {"Retry-After": "9"}))
                state, answer = await fleet.ask(CHAT, body)
                assert (answer.status, answer.body) == (status, b'{"error": {"message": "so"}}')
                assert answer.header(b"retry-after") == b"9"
                assert (len(one.requests), state.healthy) == (1, True)

        run(main)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_lasting_5xx_is_asked_four_times_and_its_reply_given_on(self, streamed: bool) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                one.faults.extend(Fault("status", 500, {"error": {"message": f"no {n}"}}) for n in range(6))
                if streamed:
                    _, reply = await fleet.open(CHAT, body)
                    content = await reply.read()
                else:
                    _, answer = await fleet.ask(CHAT, body)
                    content = answer.body
                assert (content, len(one.requests)) == (b'{"error": {"message": "no 3"}}', 4)
                one.faults.clear()
                assert (await fleet.ask(CHAT, body))[1].status == 200
                assert fleet.states()[0].healthy

        run(main)

    def test_lasting_broken_connections_are_a_fault_and_the_fleet_lives(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                one.faults.extend(Fault("close") for _ in range(8))
                with pytest.raises(Broken):
                    await fleet.ask(CHAT, body)
                assert len(one.requests) <= 8  # each of four attempts may meet one stale connection
                one.faults.clear()
                assert (await fleet.ask(CHAT, body))[1].status == 200

        run(main)

    def test_another_endpoint_is_tried_first(self) -> None:
        async def main() -> None:
            one, two = stub(), stub()
            async with fleet_of(one, two) as fleet:
                for _ in range(4):
                    one.faults.append(Fault("status", 500))
                home = fleet.settle("s", pin=None)
                assert home.url == fleet.states()[0].url
                state, answer = await fleet.ask(CHAT, body, session="s")
                assert (answer.status, state.url) == (200, fleet.states()[1].url)
                assert (len(one.requests), len(two.requests)) == (1, 1)

        run(main)

    def test_silence_is_not_tried_again(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one, silence_s=0.3) as fleet:
                one.faults.append(Fault("silence"))
                with pytest.raises(Silent):
                    await fleet.ask(CHAT, body)
                await one.until(lambda: one.requests[0].gone)
                assert (len(one.requests), fleet.states()[0].in_flight) == (1, 0)

        run(main)

    def test_a_stream_that_breaks_is_not_tried_again(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                one.faults.append(Fault("die", after=2))
                _, answer = await fleet.open(CHAT, lambda state: b'{"stream":true}')
                with pytest.raises(Broken):
                    await answer.read()
                assert (len(one.requests), fleet.states()[0].in_flight) == (1, 0)

        run(main)


class TestLimits:
    def test_no_more_at_once_than_allowed_and_eval_apart(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one, num_max_requests_at_once=2, num_requests_for_eval=1) as fleet:
                (state,) = fleet.states()
                one.faults.extend(Fault("silence") for _ in range(3))
                held = [asyncio.create_task(fleet.ask(CHAT, body)) for _ in range(2)]
                held.append(asyncio.create_task(fleet.ask(CHAT, body, lane="eval")))
                await one.until(lambda: len(one.requests) == 3)
                waiting = [asyncio.create_task(fleet.ask(CHAT, body)) for _ in range(3)]
                await asyncio.sleep(0)
                assert (state.in_flight, state.load, len(one.requests)) == (3, 2.5, 3)
                held[0].cancel()
                for task in waiting:
                    assert (await task)[1].status == 200
                held[1].cancel()
                held[2].cancel()
                await asyncio.gather(*held, return_exceptions=True)
                assert state.in_flight == 0
                assert len(one.requests) == 6

        run(main)

    def test_a_stream_is_in_flight_until_its_end(self) -> None:
        async def main() -> None:
            one = stub()
            async with fleet_of(one) as fleet:
                (state,) = fleet.states()
                for leave_early in (False, True):
                    _, answer = await fleet.open(CHAT, lambda state: b'{"stream":true}')
                    assert state.in_flight == 1
                    if leave_early:
                        answer.abort()
                    else:
                        await answer.read()
                    assert state.in_flight == 0

        run(main)


class TestChanges:
    def test_draining(self) -> None:
        async def main() -> None:
            one, two = stub(), stub()
            async with fleet_of(one, two) as fleet:
                first, second = fleet.states()
                fleet.settle("s", pin=one.url)
                one.faults.append(Fault("slow", after=0.3))
                flying = asyncio.create_task(fleet.ask(CHAT, body, session="s"))
                await one.until(lambda: len(one.requests) == 1)
                assert not await fleet.drain(one.url, timeout_s=0.01)
                assert await fleet.drain(one.url, timeout_s=30)
                assert (await flying)[1].status == 200
                for _ in range(3):
                    assert (await fleet.ask(CHAT, body))[0] is second
                with pytest.raises(NoUpstream):
                    await fleet.ask(CHAT, body, session="s")
                assert await fleet.drain(timeout_s=30)
                with pytest.raises(NoUpstream):
                    await fleet.ask(CHAT, body)
                assert first.in_flight == 0

        run(main)

    def test_replaced_endpoints_keep_their_sessions_and_get_no_more(self) -> None:
        async def main() -> None:
            one, two, three = stub(), stub(), stub()
            async with three, fleet_of(one, two) as fleet:
                first, second = fleet.states()
                fleet.settle("s")
                assert fleet.home("s") is first
                await fleet.replace([])
                assert fleet.states() == [first, second]
                await fleet.replace([endpoint(two.url), endpoint(three.url)])
                assert fleet.states()[0] is second
                assert [state.endpoint.base_url for state in fleet.states()] == [two.url, three.url]
                assert (await fleet.ask(CHAT, body, session="s"))[0] is first
                for _ in range(6):
                    assert (await fleet.ask(CHAT, body))[0] is not first
                with pytest.raises(NotFoundError):
                    fleet.settle("t", pin=one.url)
                await fleet.replace([endpoint(one.url)])
                assert fleet.states() == [first]

        run(main)
