"""One request and its reply, between the connection that receives and the coroutine that waits."""

from __future__ import annotations

import asyncio

from moorage.errors import MoorageError

__all__ = ["Exchange"]


class Exchange:
    """What has come of one reply so far."""

    __slots__ = (
        "_loop",
        "_waiter",
        "fault",
        "finished",
        "headers",
        "pieces",
        "silence_s",
        "size_bytes",
        "status",
        "streamed",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, *, silence_s: float, streamed: bool) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self.silence_s = silence_s
        self.streamed = streamed
        """Whether the waiter wants to hear of the head and of each piece, or of the end alone."""
        self.status = 0
        """0: no head yet."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        """Of the body, not taken yet."""
        self.size_bytes = 0
        """Of the pieces."""
        self.finished = False
        self.fault: MoorageError | None = None

    def take(self) -> bytes:
        """What has come of the body and was not taken."""
        pieces = self.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.size_bytes = 0
        return body

    def wait(self) -> asyncio.Future[None]:
        """Done at the next `wake`. One waiter at a time."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def wake(self) -> None:
        """Something the waiter wants to hear of has come."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def finish(self) -> None:
        """The last byte has come."""
        self.finished = True
        self.wake()

    def fail(self, fault: MoorageError) -> None:
        """Nothing more will come; what came before may still be taken."""
        if self.finished or self.fault is not None:
            return
        self.fault = fault
        self.wake()
