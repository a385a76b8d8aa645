"""Replies that are parsed while they are sampled: one conversation with the parser process for many of them at once.

While the process looks at some pieces, the next ones gather, of all streams, and go to it together. A stream that
cannot be parsed so (its parser has no such form, the process died, hangs or is not there yet) adds nothing: whoever
reads it has the whole reply parsed at its end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from moorage.engines.parsing.child import Gone, Late

__all__ = ["Feeding", "ParsedStream", "Piece"]

FEED_S = 5.0
"""How long some pieces may take; a parser that needs longer parses whole replies alone."""

WAIT_S = 0.5
"""How long a stream waits for what its pieces add. Where others' texts take the process longer, it comes later."""

Ask = Callable[[dict[str, Any], float], Awaitable[dict[str, Any] | None]]


class Piece(NamedTuple):
    """What an engine's event adds to one choice."""

    text: str
    """With special tokens in it."""
    ids: list[int]


class Feeding:
    """All streams of one parser process. `ask`: its reply, None when it is not ready; raises Gone and Late."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._numbers = itertools.count()
        self._queue: list[tuple[ParsedStream, list[Any], asyncio.Future[dict[str, Any]] | None]] = []
        self._pump: asyncio.Task[None] | None = None

    def open(self, opens: dict[str, Any]) -> ParsedStream:
        """A stream with the parsers that `opens` asks for; nothing is sent yet."""
        return ParsedStream(self, str(next(self._numbers)), opens)

    def put(self, stream: ParsedStream, feed: list[Any], answer: asyncio.Future[dict[str, Any]] | None) -> None:
        """Send `feed` with whatever else has gathered; `answer` gets what it adds. None: nobody waits."""
        self._queue.append((stream, feed, answer))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Nothing is sent any more; who waits is told that nothing was added."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for stream, _, answer in self._queue:
            stream.settle({"error": "closed"}, answer)
        self._queue.clear()

    async def _run(self) -> None:
        while self._queue:
            sent, self._queue = self._queue, []
            replies: list[Any] = []
            try:
                reply = await self._ask({"feeds": [feed for _, feed, _ in sent]}, FEED_S)
                replies = (reply or {}).get("deltas") or []
            except (Gone, Late, OSError):
                replies = []
            finally:
                if not isinstance(replies, list) or len(replies) != len(sent):
                    replies = [{"error": "the parser process did not answer"}] * len(sent)
                for (stream, _, answer), said in zip(sent, replies, strict=True):
                    stream.settle(said, answer)


class ParsedStream:
    """One choice of one reply."""

    def __init__(self, feeding: Feeding, key: str, opens: dict[str, Any]) -> None:
        self._feeding, self._key = feeding, key
        self._opens: dict[str, Any] | None = opens
        self._answers: deque[asyncio.Future[dict[str, Any]]] = deque()
        self.broken: str | None = None
        """Why it is not parsed while it comes; None: it is."""

    async def feed(self, pieces: list[Piece]) -> list[dict[str, Any]]:
        """What these pieces add, and earlier ones that took long: {reasoning, content, tool_calls}, as far as there is.

        `tool_calls`: {index: {id, name, arguments}}.
        """
        if self.broken is None and pieces:
            answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            opens, self._opens = self._opens, None
            self._feeding.put(self, [self._key, opens, [list(piece) for piece in pieces]], answer)
            self._answers.append(answer)
        if self._answers:
            await asyncio.wait(self._answers, timeout=WAIT_S)
        found = []
        while self._answers and self._answers[0].done():
            found.append(self._answers.popleft().result())
        return [one for one in found if one]

    def close(self) -> None:
        """It is over; the process forgets it."""
        if self._opens is None and self.broken is None:
            self._feeding.put(self, [self._key, None, []], None)
        self.broken = self.broken or "closed"

    def settle(self, said: Any, answer: asyncio.Future[dict[str, Any]] | None) -> None:
        """Take the process's answer to what was fed."""
        if not isinstance(said, dict) or "error" in said:
            self.broken = self.broken or str(said.get("error") if isinstance(said, dict) else said)
            said = {}
        if answer is not None and not answer.done():
            answer.set_result(said)
