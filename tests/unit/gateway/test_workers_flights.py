"""A request that may be a retry, between the others' answers and the engine."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from moorage.capture.retry import key_of, retry_evidence
from moorage.gateway.log import Log
from moorage.gateway.turns.retries import Flight
from moorage.gateway.workers.flights import FlightsElsewhere
from moorage.gateway.workers.peers import Peers

RETRY = key_of(b"c" * 16, retry_evidence("turn-1", None))
STORED = SimpleNamespace(idempotency_digest=RETRY.idempotency_digest, seq=7)


class Worker:
    """One of two, with its copy of the session; `look` is what happens when that is compared with the store."""

    def __init__(self, folder: Path, index: int) -> None:
        self.past: list[Any] = []
        self.live: Any = SimpleNamespace(
            trajectory=SimpleNamespace(uid="s"), in_flight={}, busy=0, past=lambda _content: self.past
        )
        self.look: Callable[[], Awaitable[None]] | None = None
        self.peers = Peers(folder, index, 2, log=Log(io.StringIO(), worker=index))
        self.elsewhere = FlightsElsewhere(self.peers, self)  # type: ignore[arg-type]

    def known(self, _uid: str) -> Any:
        return self.live

    async def refresh(self, _live: Any) -> None:
        if self.look is not None:
            await self.look()

    async def ask(self) -> str:
        """Whether it asks the engine, or replays which call."""
        flight = Flight(self.live, RETRY)
        try:
            return await self.elsewhere.once(self.live, RETRY, _engine, _replay)()  # type: ignore[arg-type,return-value]
        finally:
            flight.land()


async def _engine() -> str:
    return "the engine"


async def _replay(seq: int) -> str:
    return f"call {seq}"


def with_two(folder: Path, scenario: Callable[[Worker, Worker], Awaitable[None]]) -> None:
    async def run() -> None:
        workers = Worker(folder, 0), Worker(folder, 1)
        try:
            for one in workers:
                await one.peers.start()
            await scenario(*workers)
        finally:
            for one in workers:
                await one.peers.close()

    asyncio.run(run())


def test_what_the_other_one_finished_before_it_was_asked_is_replayed(tmp_path: Path) -> None:
    """It is in flight no more, and this worker's copy is of before."""

    async def scenario(_: Worker, late: Worker) -> None:
        async def look() -> None:
            late.past = [STORED]

        late.look = look
        assert await late.ask() == "call 7"

    with_two(tmp_path, scenario)


def test_a_new_one_asks_the_engine(tmp_path: Path) -> None:
    async def scenario(first: Worker, second: Worker) -> None:
        assert await first.ask() == await second.ask() == "the engine"

    with_two(tmp_path, scenario)


def test_who_gives_way_while_it_looks_waits(tmp_path: Path) -> None:
    """The other one began, and was told to go on, after it had said that it has none."""

    async def scenario(lower: Worker, higher: Worker) -> None:
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def engine() -> str:
            asked.set()
            await may_answer.wait()
            return "the engine"

        async def work() -> str:
            flight = Flight(lower.live, RETRY)
            try:
                return await lower.elsewhere.once(lower.live, RETRY, engine, _replay)()  # type: ignore[arg-type,return-value]
            finally:
                higher.past = [STORED]
                flight.land()

        async def look() -> None:
            if not asked.is_set():
                tasks.append(asyncio.create_task(work()))
                await asyncio.wait_for(asked.wait(), 20)
                may_answer.set()

        tasks: list[asyncio.Task[str]] = []
        higher.look = look
        assert await asyncio.wait_for(higher.ask(), 20) == "call 7"
        assert await tasks[0] == "the engine"

    with_two(tmp_path, scenario)
