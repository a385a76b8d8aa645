"""Many clients that say nothing, in a process of their own with as many files as it may have.

    python -m tests.contract.idle_crowd PORT COUNT

Each connects, asks for /ready once and keeps its connection. Prints "here COUNT" when all are there; on a line of input
each asks again, "alive COUNT" says how many were answered; the end of the input ends it.
"""

from __future__ import annotations

import asyncio
import resource
import sys

ASK = b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n"
AT_ONCE = 200

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def crowd(port: int, count: int) -> None:
    few = asyncio.Semaphore(AT_ONCE)

    async def join() -> Pair:
        async with few:
            pair = await asyncio.open_connection("127.0.0.1", port, limit=4096)
            assert await answered(pair)
            return pair

    async def again(pair: Pair) -> bool:
        async with few:
            return await answered(pair)

    pairs = await asyncio.gather(*(join() for _ in range(count)))
    say(f"here {len(pairs)}")
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        say(f"alive {sum(await asyncio.gather(*map(again, pairs)))}")


async def answered(pair: Pair) -> bool:
    reader, writer = pair
    writer.write(ASK)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    except (OSError, asyncio.IncompleteReadError):
        return False
    return head.startswith(b"HTTP/1.1 200 ")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(crowd(int(sys.argv[1]), int(sys.argv[2])))
