"""Two stub engines in a process of their own, of which no two replies are the same: each says its number.

    python -m tests.campaigns.soak.engine [--pace-ms 1]

The first line tells where they are. Unlike `tests.campaigns.kills.numbered_engine` nothing of a request is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
from pathlib import Path

from tests.stand_ins.engine_stub import EngineStub
from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply

__all__ = ["NANO"]

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"
ENGINES = 2


class Numbered:
    """A `Replier`; several engines share one, so that no number is given twice."""

    def __init__(self) -> None:
        self._engine = SmallEngine(NANO, scale_out=True)
        self._numbers = itertools.count(1)

    def __call__(self, path: str, body: bytes) -> StubReply:
        request = json.loads(body)
        many = (request.get("sampling_params") or request).get("n") or 1
        number = next(self._numbers)
        self._engine.say.clear()  # what a refused request left
        self._engine.say.extend(_text(number, choice) for choice in range(many))
        return self._engine(path, body)


def _text(number: int, choice: int) -> str:
    """Every fourth thinks before, every eleventh calls a tool."""
    thought = "<think>\nI count.\n</think>\n\n" if number % 4 == 0 else ""
    call = '\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>' if number % 11 == 0 else ""
    return f"{thought}This is answer {number} of choice {choice}.{call}"


async def _serve(pace_s: float) -> None:
    replies = Numbered()
    stubs = [EngineStub(replies, pace_s=pace_s) for _ in range(ENGINES)]
    for stub in stubs:
        stub.keeps = False
        await stub.start()
    sys.stdout.write(json.dumps({"urls": [stub.url for stub in stubs]}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pace-ms", type=float, default=0.0, help="between the chunks of a stream")
    import uvloop

    uvloop.run(_serve(parser.parse_args().pace_ms / 1000))


if __name__ == "__main__":
    main()
