"""Several processes over one store, and processes that are killed: what was answered is there, once."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from moorage.capture.chain import verify_chain
from moorage.pool.contract import NewTrajectory
from moorage.pool.opening import open_store
from tests.contract.store_parts import ask, draft, step
from tests.contract.store_writer import UIDS

ROOT = Path(__file__).resolve().parents[2]


async def first(events, kind):
    """Events up to the first of a kind."""
    async for event in events:
        yield event
        if event.type == kind:
            return


def start(url: str, name: str, calls: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contract.store_writer", url, name, str(calls)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


async def prepare(url: str) -> None:
    store = open_store(url, read_only=False)
    await store.open()
    for uid in UIDS:
        await store.create(NewTrajectory(uid=uid, kind="session"))
    await store.close()


async def check(url: str, lines: list[str]) -> None:
    """What the lines say was answered is stored, whole and once; nothing that was acked is delivered again."""
    store = open_store(url, read_only=False)
    await store.open()
    stored: Counter[str] = Counter()
    for uid in UIDS:
        calls = await store.calls(uid)
        assert [call.seq for call in calls] == [call.step_index for call in calls] == list(range(len(calls)))
        assert verify_chain(await store.records(uid)) is None
        stored.update(call.record.call_id for call in calls)
    assert set(stored.values()) <= {1}
    words = [line.split() for line in lines]
    for _, call_id, many in (one for one in words if one[0] == "call"):
        assert all(f"{call_id}-{choice}" in stored for choice in range(int(many))), call_id
    for call_id in stored:  # the choices of a request: all or none
        request, choice = call_id.rsplit("-", 1)
        assert all(f"{request}-{one}" in stored for one in range(int(choice)))
    submitted = [one[1] for one in words if one[0] == "step"]
    rows, cursor = [], None
    while not rows or cursor:
        page = await store.trajectories({"channel": "pool"}, 1000, cursor)
        rows, cursor = [*rows, *(row.trajectory_uid for row in page.rows)], page.next_cursor
    assert set(submitted) <= set(rows) and len(set(rows)) == len(rows)
    acked = [uid for one in words if one[0] == "acked" for uid in one[1:]]
    assert len(set(acked)) == len(acked)
    leases, _ = await store.lease(ask(channel="pool", max_groups=1000))
    assert not {lease.prompt_uid for lease in leases} & set(acked)
    await store.complete(UIDS[0], reward=None, channel=None)
    events = []
    async for event in store.events(None, 0):
        events.append(event.id)
        if event.trajectory_uid == UIDS[0] and event.type == "complete":
            break
    assert events == sorted(set(events)) and len(events) > len(stored)
    await store.close()


class CompanyContract:
    """A subclass gives `url`."""

    def test_processes_share_a_store(self, url):
        asyncio.run(prepare(url))
        writers = [start(url, f"w{n}", 25) for n in range(3)]
        with ThreadPoolExecutor(3) as pool:
            said = list(pool.map(lambda one: one.communicate(timeout=120)[0], writers))
        assert [one.returncode for one in writers] == [0, 0, 0]
        lines = [line for text in said for line in text.splitlines()]
        assert sum(line.startswith("call") for line in lines) == 3 * 4 * 25
        asyncio.run(check(url, lines))

    def test_processes_that_open_a_new_store_at_once_make_one(self, url):
        program = (
            "import asyncio, sys; from moorage.pool.opening import open_store\n"
            "from moorage.pool.contract import NewTrajectory\n"
            "async def main():\n"
            "    store = open_store(sys.argv[1], read_only=False); input(); await store.open()\n"
            "    await store.create(NewTrajectory(uid=sys.argv[2], kind='session')); await store.close()\n"
            "asyncio.run(main())\n"
        )
        command = [sys.executable, "-c", program, url]
        openers = [subprocess.Popen([*command, f"u{n}"], stdin=subprocess.PIPE, cwd=ROOT) for n in range(4)]
        for one in openers:
            one.stdin.write(b"\n")
            one.stdin.flush()
        assert [one.wait(60) for one in openers] == [0] * 4
        for one in openers:
            one.stdin.close()

        async def read() -> set[str]:
            store = open_store(url, read_only=False)
            await store.open()
            found = {one.uid for one in await store.sessions()}
            await store.close()
            return found

        assert asyncio.run(read()) == {f"u{n}" for n in range(4)}

    def test_two_stores_hear_of_each_other(self, url):
        async def scenario():
            one, other = (open_store(url, read_only=False) for _ in range(2))
            await one.open()
            await other.open()

            async def wait_for_group():
                while not (leases := (await one.lease(ask()))[0]):
                    await one.wait_for_change(60)
                return leases

            async def wait_for_event():
                return [event async for event in first(one.events("train", 0), "complete")][-1]

            waiting = [asyncio.create_task(wait_for_group()), asyncio.create_task(wait_for_event())]
            await other.submit([step("t", prompt_uid="g", is_last=True)], None)
            (lease,), event = await asyncio.wait_for(asyncio.gather(*waiting), 60)
            assert (lease.prompt_uid, event.trajectory_uid) == ("g", "t")
            # What each remembers of a trajectory is no longer so after the other wrote.
            await one.create(NewTrajectory(uid="u", kind="session"))
            for turn in range(10):
                appended = await (one, other)[turn % 2].append("u", [draft("u")], {})
                assert appended.calls[0].seq == turn
                for store in (one, other):
                    assert len(await store.calls("u")) == turn + 1
            await other.complete("u", reward=None, channel=None)
            assert (await one.append("u", [draft("u")], {})).calls[0].late
            assert verify_chain(await other.records("u")) is None
            await one.close()
            await other.close()

        asyncio.run(scenario())

    def test_another_process_of_the_store_is_heard_at_once(self, url):
        """Within a fraction of a second; here it may take longer, for the machine may be busy."""

        async def scenario():
            one, other = (open_store(url, read_only=False) for _ in range(2))
            await one.open()
            await other.open()
            loop = asyncio.get_running_loop()
            delays = []
            for number in range(3):
                await one.lease(ask())
                waiting = asyncio.create_task(one.wait_for_change(60))
                await asyncio.sleep(0.3)
                done = waiting.done()
                began = loop.time()
                await other.submit([step(f"t{number}", is_last=True)], None)
                await waiting
                delays.append(0.0 if done else loop.time() - began)
            assert min(delays) < 1.0
            await one.close()
            await other.close()

        asyncio.run(scenario())

    def test_a_copy_is_stale_after_another_process_wrote(self, url):
        async def scenario():
            one, other = (open_store(url, read_only=False) for _ in range(2))
            await one.open()
            await other.open()
            await one.create(NewTrajectory(uid="t", kind="session"))
            mine = (await one.append("t", [draft("t")], {})).stamp
            assert await one.stamp("t") == mine
            seen = await other.stamp("t")
            assert await other.stamp("t") == seen
            theirs = (await other.append("t", [draft("t")], {})).stamp
            assert await one.stamp("t") != mine
            assert await other.stamp("t") == theirs != seen
            shared = await one.stamp("")
            await other.set_state({"paused": True})
            assert await one.stamp("") != shared
            assert await one.state() == {"paused": True}
            await one.close()
            await other.close()

        asyncio.run(scenario())


def cut_off(url: str, kills: int, between: Callable[[int], object] = lambda kill: None) -> None:
    """Kill writing processes, and whatever `between` kills; what was answered is there, once."""
    asyncio.run(prepare(url))
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    lines: list[str] = []
    running = [start(url, "k0", 0), start(url, "k1", 0)]
    for kill in range(kills):
        victim = running.pop(0)
        for _ in range(dice.randrange(1, 60)):  # the place of the kill: so many answers in
            lines.append(victim.stdout.readline())
        between(kill)
        for _ in range(dice.randrange(3)):
            lines.append(victim.stdout.readline())
        victim.kill()
        lines += victim.communicate()[0].splitlines(keepends=True)
        if kill < kills - 1:
            running.append(start(url, f"k{kill + 2}", 0))
    for one in running:
        one.kill()
        lines += one.communicate()[0].splitlines(keepends=True)
    assert any(line.startswith("call") for line in lines), seed  # pytest shows the seed with what fails
    asyncio.run(check(url, [line for line in lines if line.endswith("\n")]))
