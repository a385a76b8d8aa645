"""What decides in operations, apart from sockets: patience, the gate, what is told of clients' names, orders."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import ConflictError, TryAgainError
from moorage.gateway.file_limit import connections_within
from moorage.gateway.gate import Gate, Pause
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.patience import late_body, late_head, late_reader
from moorage.gateway.log import Log
from moorage.gateway.metrics.exposition import text_of
from moorage.gateway.metrics.family import Family, counter, gauge, histogram
from moorage.gateway.metrics.pool_watch import CHANNELS, REST, PoolWatch
from moorage.gateway.orders import Orders
from moorage.gateway.steady import steady_clock

seconds = st.floats(0, 1e6)


# Patience --------------------------------------------------------------------------------------------------------


@given(seconds, seconds, st.integers(0, 1 << 30), st.floats(0.1, 1e3))
def test_who_goes_on_has_longer_and_who_stops_has_not(came: float, silent: float, size: int, client: float) -> None:
    if silent > client:
        assert late_body(came, silent, size, client_s=client) == "body"
    elif came <= client:
        assert late_body(came, silent, size, client_s=client) is None
    if late_body(came, silent, size, client_s=client) is None:
        assert late_body(came, silent, size + 1, client_s=client) is None
    assert (late_head(came, client_s=client), late_reader(came, client_s=client)) in ((None, None), ("head", "reader"))


def test_a_body_that_trickles_is_late_however_long_it_goes_on() -> None:
    late = [late_body(since, 0.5, int(since * 2), client_s=30) for since in (29.0, 31.0, 60.0, 6000.0)]
    assert late == [None, "body", "body", "body"]


@given(st.integers(1, 1 << 21), st.integers(1, 1 << 21))
def test_clients_never_take_all_files(files: int, wanted: int) -> None:
    taken = connections_within(files, wanted)
    assert 1 <= taken <= wanted
    assert taken == 1 or taken <= files - 128


# The gate --------------------------------------------------------------------------------------------------------


def refusal(gate: Gate) -> str | None:
    """Why a call may not begin; None: it may, and has."""
    try:
        gate.enter()
    except Fault as fault:
        assert fault.retry_after_s is not None
        return fault.code
    return None


@given(st.lists(st.sampled_from(["enter", "leave", "pause", "resume"]), max_size=60), st.integers(1, 4))
def test_the_gate_lets_in_as_many_as_may_be_and_none_while_paused(steps: list[str], limit: int) -> None:
    gate, inside, paused = Gate(limit), 0, False
    for one in steps:
        if one == "enter":
            wanted = "paused" if paused else "too_many_calls" if inside >= limit else None
            assert refusal(gate) == wanted
            inside += wanted is None
        elif one == "leave" and inside:
            gate.leave()
            inside -= 1
        elif one in ("pause", "resume"):
            paused = one == "pause"
            gate.pause(Pause(id="a", since=0.0) if paused else None)
        assert gate.in_flight == inside
    gate.drain()
    gate.pause(None)
    assert refusal(gate) == "draining"


def test_waiting_for_quiet_ends_with_the_last_call() -> None:
    async def wait() -> list[int]:
        gate = Gate(None)
        gate.enter()
        gate.enter()
        waiting = [asyncio.ensure_future(gate.wait_until_quiet(20)) for _ in range(3)]
        waiting[0].cancel()
        await asyncio.sleep(0)
        left = [await gate.wait_until_quiet(0.01)]
        gate.leave()
        gate.leave()
        return [*left, *await asyncio.gather(*waiting[1:]), await gate.wait_until_quiet(20)]

    assert asyncio.run(wait()) == [2, 0, 0, 0]


# Metrics ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 20), max_size=50))
def test_buckets_hold_all_that_is_no_more_than_their_edge(values: list[float]) -> None:
    bounds = (0.5, 1.0, 5.0)
    counts = [0] * 4
    for value in values:
        counts[sum(bound < value for bound in bounds)] += 1
    family = histogram("took_seconds", "It took.", bounds, {("a",): (counts, sum(values))}, "route")
    told = {one.labels.get("le", one.suffix): one.value for one in family.samples}
    for bound in bounds:
        assert told[repr(bound)] == sum(value <= bound for value in values)
    assert told["+Inf"] == told["_count"] == len(values)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(family), type=Family) == family


def test_texts_that_are_meant_to_hurt_stay_within_their_label() -> None:
    hurting = 'a"} 1\nmoorage_up 7\\'
    text = text_of([gauge("moorage_things", "Things.", {(hurting,): 1}, "name")]).decode()
    assert text.count("\n") == 3
    assert 'moorage_things{name="a\\"} 1\\nmoorage_up 7\\\\"} 1.0' in text


def test_workers_are_told_apart_and_what_is_shared_is_told_once() -> None:
    mine = [gauge("a", "A.", 1, shared=True), counter("b", "B.", {("x",): 2}, "kind")]
    told = text_of(mine, {"1": mine}, "0").decode().splitlines()
    assert [line for line in told if not line.startswith("#")] == [
        "a 1.0",
        'b_total{kind="x",worker="0"} 2.0',
        'b_total{kind="x",worker="1"} 2.0',
    ]
    assert "worker" not in text_of(mine).decode()


class FakeStats:
    """A store that only counts; `away`: it cannot."""

    def __init__(self) -> None:
        self.channels: dict[str, int] = {}
        self.asked = 0
        self.away = False

    async def stats(self, channel: str | None, n_rollouts: int) -> dict[str, Any]:
        del channel, n_rollouts
        self.asked += 1
        if self.away:
            raise TryAgainError("the store is away")
        nothing = {"late_steps": 0, "trajectories": {"open": 0}, "groups": {"ready": 1, "leased": 2}}
        return {name: {**nothing, "steps": steps} for name, steps in self.channels.items()}


def steps_told(families: list[Family]) -> dict[str, float]:
    [family] = [one for one in families if one.name == "moorage_pool_steps"]
    return {one.labels["channel"]: one.value for one in family.samples}


def test_a_channel_keeps_its_label_and_newcomers_share_one() -> None:
    async def watch() -> None:
        store = FakeStats()
        store.channels = {f"m{number:03d}": 1 for number in range(CHANNELS)}
        pool = PoolWatch(store, n_rollouts=1)  # type: ignore[arg-type]  # all of a store that it asks
        assert set(steps_told(await pool.families())) == set(store.channels)
        store.channels |= {f"a{number:03d}": 5 for number in range(70)}
        assert len(steps_told(await pool.families())) == CHANNELS
        assert store.asked == 1, "counted again within five seconds"
        pool._due_at = 0.0
        told = steps_told(await pool.families())
        assert told.pop(REST) == 350
        assert set(told) == {f"m{number:03d}" for number in range(CHANNELS)}
        store.away, pool._due_at = True, 0.0
        assert steps_told(await pool.families())[REST] == 350
        await pool.close()

    asyncio.run(watch())


# Orders ----------------------------------------------------------------------------------------------------------


class SharedState:
    """The state of a store, as several gateways see it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.stamps = 0

    async def stamp(self, uid: str) -> int:
        assert uid == ""
        return self.stamps

    async def state(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return dict(self.values)

    async def set_state(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        for name, value in changes.items():
            if value is None:
                self.values.pop(name, None)
            else:
                self.values[name] = value
        self.stamps += 1
        return dict(self.values)


def orders_over(store: SharedState, name: str) -> Orders:
    return Orders(
        store,  # type: ignore[arg-type]  # all of a store that they ask
        Gate(None),
        name=name,
        clock=lambda: 0.0,
        new_id=iter(map(str, range(1 << 20))).__next__,
        on_weights=lambda _: None,
        log=Log(io.StringIO()),
    )


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=12), st.booleans())
def test_weights_never_go_back_whoever_names_them(asked: list[tuple[int, int]], at_once: bool) -> None:
    async def name_all() -> None:
        store = SharedState()
        orders = [orders_over(store, str(number)) for number in range(2)]
        seen: list[int] = []

        async def name(who: int, version: int) -> None:
            try:
                await orders[who].name_weights(version, force=False)
            except ConflictError as refused:
                assert refused.data is not None
                assert refused.data["version"] > version
            else:
                assert orders[who].weights == version
            seen.append(max(int(one.removeprefix("weights.v")) for one in store.values))

        if at_once:
            await asyncio.gather(*(name(*one) for one in asked))
        else:
            for one in asked:
                await name(*one)
        assert seen == sorted(seen)
        assert seen[-1] == max(version for _, version in asked)

    asyncio.run(name_all())


def test_a_gateway_that_was_taken_for_dead_says_that_it_lives() -> None:
    async def live() -> None:
        store = SharedState()
        orders = orders_over(store, "a")
        await orders.start()
        store.values.pop("gateway.a")
        store.stamps += 1
        async with asyncio.timeout(20):
            while "gateway.a" not in store.values:
                await asyncio.sleep(0.02)
        await orders.close()
        assert "gateway.a" not in store.values

    asyncio.run(live())


def test_a_pause_that_cannot_be_read_is_a_pause() -> None:
    async def look() -> None:
        store = SharedState()
        orders = orders_over(store, "a")
        await orders.start()
        for paused in ({"since": "yesterday"}, 7, ["x"]):
            await store.set_state({"paused": paused})
            async with asyncio.timeout(20):
                while refusal(orders._gate) != "paused":
                    orders._gate.leave()
                    await asyncio.sleep(0.02)
            await orders.resume()
        await orders.close()

    asyncio.run(look())


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_steady_clock_does_not_jump(jump: float) -> None:
    wall, ticks = [1000.0], [5.0]
    clock = steady_clock(lambda: wall[0], lambda: ticks[0])
    wall[0] += jump
    ticks[0] += 2
    assert clock() == 1002.0
