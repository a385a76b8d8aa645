"""A process that appends to a shared store until it is killed, and names each call on stdout once it is durable.

    python -m tests.contract.store_writer URL NAME CALLS

CALLS 0: for ever. It also submits, completes, leases and acks, so that every kind of write is cut off somewhere. What
the store refuses for now it asks again, under the same name: stored twice, it would be found twice.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from moorage.capture.packing import pack_floats, pack_ids
from moorage.errors import PreflightError
from moorage.pool.faults import StoreFault
from moorage.pool.opening import open_store
from tests.contract.store_parts import ask, draft, step

UIDS = tuple(f"t{n}" for n in range(6))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def insist(work: Callable[[], Awaitable[Any]]) -> Any:
    while True:
        try:
            return await work()
        except (StoreFault, PreflightError) as fault:
            say(f"fault {fault.code}")
            await asyncio.sleep(0.02)


async def write(url: str, name: str, calls: int) -> None:
    store = open_store(url, read_only=False)
    await insist(store.open)

    async def append(lane: int) -> None:
        number = 0
        while not calls or number < calls:
            call_id = f"{name}-{lane}-{number}"
            many = 1 + number % 3
            drafts = [
                draft(
                    UIDS[(lane + number) % len(UIDS)],
                    call_id=f"{call_id}-{choice}",
                    choice=choice,
                    delta=pack_ids(range(500 * (number % 12))),
                    logprobs=pack_floats([0.1, 0.2]),
                )
                for choice in range(many)
            ]
            await insist(partial(store.append, drafts[0].session_id, drafts, {}))
            say(f"call {call_id} {many}")
            number += 1

    async def lease(lane: int) -> None:
        number = 0
        while not calls or number < calls:
            uid = f"{name}-{lane}-{number}"
            await insist(partial(store.submit, [step(uid, prompt_uid=uid, is_last=True)], "pool"))
            say(f"step {uid}")
            leases, _ = await insist(partial(store.lease, ask(channel="pool", max_groups=3)))
            if leases:
                await insist(partial(store.ack, [one.lease_id for one in leases]))
                say(" ".join(["acked", *(one.prompt_uid for one in leases)]))
            number += 1

    await asyncio.gather(*(append(lane) for lane in range(4)), *(lease(lane) for lane in range(2)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
