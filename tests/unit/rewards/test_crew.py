"""The processes of a function: how many there are, who waits, and that none is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from moorage.errors import FailedError, MoorageError, TryAgainError, UsageError
from moorage.rewards.configured import Configured
from moorage.rewards.sample import Sample
from moorage.rewards.scorer import Scorer
from moorage.rewards.worker import crew as crew_file
from moorage.rewards.worker.child import kept_environ
from moorage.rewards.worker.crew import Crew

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = Sample(response="four")
Test = Callable[[Crew], Awaitable[None]]


def enemy(name: str, **fields: Any) -> Configured:
    return Configured(name=name, target=f"tests.stand_ins.enemy_rewards:{name}", **{"timeout_s": 2.0, **fields})


def run(work: Awaitable[None]) -> None:
    """As the gateway does; the program's death is not to end the test."""

    async def within() -> None:
        await asyncio.wait_for(work, 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(within())


@contextlib.asynccontextmanager
async def working(what: Configured, told: list[Any] | None = None) -> AsyncIterator[Crew]:
    heard = [] if told is None else told
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    one = Crew(what, environ, lambda event, **fields: heard.append((event, fields)))
    await one.start()
    try:
        yield one
    finally:
        await one.close()


async def code_of(work: Awaitable[Any]) -> str:
    try:
        await work
    except MoorageError as fault:
        return fault.code
    return ""


def test_no_more_processes_than_allowed() -> None:
    async def body() -> None:
        async with working(enemy("good", processes=2)) as crew:
            judged = await asyncio.gather(*(crew.judge(SAMPLE) for _ in range(200)))
            assert {one.reward for one in judged} == {4.0}
            assert 1 <= len({one.info["pid"] for one in judged}) <= 2

    run(body())


def test_a_late_one_stops_only_itself() -> None:
    async def body() -> None:
        told: list[Any] = []
        async with working(enemy("loops", processes=2, timeout_s=0.5), told) as crew:
            codes = await asyncio.gather(*(code_of(crew.judge(SAMPLE)) for _ in range(4)))
            assert codes == ["reward_timeout"] * 4
        assert [event for event, _ in told] == ["reward_timeout"] * 4

    run(body())


def test_who_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_file, "LONGEST_WAIT_S", 0.2)
    monkeypatch.setattr(crew_file, "MOST_WAITING", 2)

    async def body() -> None:
        async with working(enemy("hangs", processes=1, timeout_s=3)) as crew:
            first = asyncio.create_task(code_of(crew.judge(SAMPLE)))
            await asyncio.sleep(0)
            others = await asyncio.gather(*(code_of(crew.judge(SAMPLE)) for _ in range(5)))
            assert others == ["reward_busy"] * 5
            assert await first == "reward_timeout"

    run(body())


def test_one_that_nobody_waits_for_gives_its_place_back() -> None:
    async def body() -> None:
        async with working(enemy("hangs", processes=1, timeout_s=0.5)) as crew:
            for _ in range(3):
                left = asyncio.create_task(crew.judge(SAMPLE))
                await asyncio.sleep(0)
                left.cancel()
            assert await code_of(crew.judge(SAMPLE)) == "reward_timeout"

    run(body())


def test_closing_ends_what_is_under_way() -> None:
    async def body() -> None:
        async with working(enemy("hangs", processes=1, timeout_s=600)) as crew:
            under_way = [asyncio.create_task(code_of(crew.judge(SAMPLE))) for _ in range(3)]
            await asyncio.sleep(0.2)
            await crew.close()
            assert sorted([await one for one in under_way]) == ["reward_busy", "reward_busy", "reward_crashed"]
            assert await code_of(crew.judge(SAMPLE)) == "reward_busy"

    run(body())


def test_one_that_cannot_start_leaves_no_other() -> None:
    async def body() -> None:
        bad = Configured(name="bad", target="tests.stand_ins.enemy_rewards:none")
        scorer = Scorer([enemy("good"), bad], environ={**os.environ, "PYTHONPATH": str(ROOT)}, tell=print)
        with pytest.raises(FailedError) as told:
            await scorer.start()
        assert told.value.code == "reward_unloadable"
        with pytest.raises(TryAgainError):
            await scorer.judge("good", SAMPLE)
        with pytest.raises(UsageError):
            await scorer.judge("nope", SAMPLE)

    run(body())


def test_many_at_once_in_one_process() -> None:
    """A function that waits more than it computes: 32 at once, and a late one does not end the others."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        arrived.append(body)
        if len(arrived) == 20:
            together.set()
        await together.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n0.5")
        writer.close()

    arrived: list[bytes] = []
    together = asyncio.Event()

    async def body() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = {"url": f"http://127.0.0.1:{port}/"}
        what = Configured(
            name="judge", target="moorage.rewards.functions.remote:Remote", options=options, processes=1, timeout_s=30
        )
        async with server, working(what) as crew:
            judged = await asyncio.gather(*(crew.judge(SAMPLE) for _ in range(20)))
            assert [one.reward for one in judged] == [0.5] * 20

    run(body())


def test_a_late_one_among_many_leaves_them_their_time() -> None:
    """Of several in one process one never ends: the others are answered, and then the process goes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        if b'"stuck"' in body:
            await asyncio.sleep(3600)
        if b'"after"' in body:
            await late.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n0.5")
        writer.close()

    late = asyncio.Event()

    async def body() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = {"url": f"http://127.0.0.1:{port}/", "timeout_s": 3000}
        target = "moorage.rewards.functions.remote:Remote"
        what = Configured(name="judge", target=target, options=options, processes=1, timeout_s=1.0)
        told: list[Any] = []
        async with server, working(what, told) as crew:
            stuck = asyncio.create_task(code_of(crew.judge(Sample(response="stuck"))))
            await asyncio.sleep(0.5)
            other = asyncio.create_task(crew.judge(Sample(response="after")))
            assert await stuck == "reward_timeout"
            late.set()
            assert (await other).reward == 0.5
            assert (await crew.judge(SAMPLE)).reward == 0.5  # of a process that took its place

    run(body())


def test_keys_of_others_are_not_passed_on() -> None:
    environ = {"PATH": "/bin", "HF_TOKEN": "a", "OPENAI_API_KEY": "b", "JUDGE_KEY": "c", "LC_ALL": "C"}
    assert kept_environ(environ, ("JUDGE_KEY",)) == {"PATH": "/bin", "JUDGE_KEY": "c", "LC_ALL": "C"}
