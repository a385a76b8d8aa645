"""Limits: as many as allowed, the rest in line, none lost by cancellation."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.fleet.slots import Slots


def test_first_come_first_served() -> None:
    async def main() -> list[int]:
        slots, order = Slots(1), []

        async def one(number: int) -> None:
            await slots.take()
            order.append(number)
            await asyncio.sleep(0)
            slots.give()

        await asyncio.gather(*(one(number) for number in range(5)))
        assert (slots.taken, slots.busy) == (0, 0)
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_nobody_jumps_the_line() -> None:
    async def main() -> None:
        slots = Slots(1)
        assert slots.try_take()
        waiting = asyncio.create_task(slots.take())
        await asyncio.sleep(0)
        slots.give()
        assert not slots.try_take()
        await waiting
        slots.give()
        assert slots.try_take()

    asyncio.run(main())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40), st.integers(1, 4))
def test_cancelled_waiters_lose_no_slot(steps: list[tuple[bool, int]], limit: int) -> None:
    async def main() -> None:
        slots, most = Slots(limit), 0

        async def one(rounds: int) -> None:
            nonlocal most
            await slots.take()
            most = max(most, slots.taken)
            try:
                for _ in range(rounds):
                    await asyncio.sleep(0)
            finally:
                slots.give()

        tasks = [asyncio.create_task(one(rounds)) for _, rounds in steps]
        for (cancelled, rounds), task in zip(steps, tasks, strict=True):
            for _ in range(rounds):
                await asyncio.sleep(0)
            if cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (slots.taken, slots.busy) == (0, 0)
        assert most <= limit

    asyncio.run(main())


def test_quiet() -> None:
    async def main() -> None:
        slots = Slots(2)
        await slots.wait_until_quiet()
        await slots.take()
        waiting = asyncio.create_task(slots.wait_until_quiet())
        await asyncio.sleep(0)
        assert not waiting.done()
        slots.give()
        async with asyncio.timeout(30):
            await waiting

    asyncio.run(main())


@pytest.mark.parametrize("limit", [1, 512])
def test_busy_counts_those_in_line(limit: int) -> None:
    async def main() -> None:
        slots = Slots(limit)
        tasks = [asyncio.create_task(slots.take()) for _ in range(limit + 3)]
        await asyncio.sleep(0)
        assert (slots.taken, slots.busy) == (limit, limit + 3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert slots.busy == limit

    asyncio.run(main())
