"""Lines of an endpoint's replicas: at once, or as they come until the service ends.

Lepton sends a replica's log from its beginning and goes on while it runs, so a log is over for us when nothing came for
a while; and a connection that broke is opened again, past what was already told.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile

from moorage.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.launch.platforms.lepton_client import LeptonClient

QUIET_S = 1.0
"""Nothing for so long: all that was written so far has come."""
LONGEST_READ_S = 20.0
"""Of a service that never stops writing, what came until then."""
STILL_THERE_S = 60.0
"""A followed log that is silent for so long is opened again: the connection may be dead."""
LOOK_EVERY_S = 1.0
"""How often a followed service is asked whether it lives, and for new replicas."""
LOOK_AGAIN_S = 0.3
"""The same when a log has just ended."""
LAST_WORDS_S = 10.0
HEAD_BYTES = 512
READERS_AT_ONCE = 8


def read_lines(client: LeptonClient, name: str, *, tail: int | None) -> list[str]:
    """What all replicas wrote until now, one replica after the other; `tail`: the last lines of each."""
    replicas = client.replicas(name)

    def read(replica: str) -> deque[str]:
        place = Place(_mark(replica, replicas))
        lines = deque(place.lines(_written(client, name, replica)), maxlen=tail)
        lines.extend(place.flush())
        return lines

    with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
        return [line for lines in pool.map(read, replicas) for line in lines]


def follow_lines(client: LeptonClient, name: str, *, tail: int | None, is_over: Callable[[], bool]) -> Iterator[str]:
    """Lines as they come, until `is_over` says that the service has ended. `tail`: from the last lines of now on."""
    follower = _Follower(client, name)
    try:
        if tail is not None:
            yield from follower.catch_up(tail)
        yield from follower.lines(is_over)
    finally:
        follower.left = True


class Place:
    """How far one replica's log was told, over several connections. `mark` comes before each line."""

    def __init__(self, mark: str = "") -> None:
        self._mark = mark
        self._told_bytes = 0
        self._head = b""
        """How the log begins: another beginning is the log of a container that was started again."""
        self._rest = b""

    def lines(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """The whole lines that a connection brings beyond what was told: cut at newlines alone, out of pieces that are
        cut anywhere; bytes that are no UTF-8 are replaced."""
        for piece in self._new_of(pieces):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                yield self._text(line)

    def flush(self) -> Iterator[str]:
        """The last line, where it has no newline: it is whole only when nothing more can come."""
        rest, self._rest = self._rest, b""
        if rest:
            yield self._text(rest)

    def _new_of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        seen = 0
        held = b""
        known = not self._head
        for piece in pieces:
            held += piece
            if not known and len(held) < len(self._head) and self._head.startswith(held):
                continue
            if not known and not held.startswith(self._head):
                self._told_bytes, self._head, self._rest = 0, b"", b""
            known = True
            skipped = max(0, min(len(held), self._told_bytes - seen))
            seen += len(held)
            new, held = held[skipped:], b""
            if len(self._head) < HEAD_BYTES:
                self._head = (self._head + new)[:HEAD_BYTES]
            self._told_bytes += len(new)
            if new:
                yield new

    def _text(self, line: bytes) -> str:
        return self._mark + line.removesuffix(b"\r").decode("utf-8", "replace")


class _Follower:
    """Reads each replica in a thread of its own. `left`: nobody listens any more."""

    def __init__(self, client: LeptonClient, name: str) -> None:
        self._client, self._name = client, name
        self._queue: queue.Queue[str | None] = queue.Queue()
        """Lines, and None when a reader has ended."""
        self._places: dict[str, Place] = {}
        self._threads: dict[str, threading.Thread] = {}
        self.left = False

    def catch_up(self, tail: int) -> list[str]:
        """The last lines of each replica; what follows goes on from there."""
        replicas = self._client.replicas(self._name)
        told: list[str] = []
        for replica in replicas:
            pieces = _written(self._client, self._name, replica)
            told += deque(self._place(replica, replicas).lines(pieces), maxlen=tail)
        return told

    def lines(self, is_over: Callable[[], bool]) -> Iterator[str]:
        while True:
            looked = time.monotonic()
            over = is_over()
            self._read(self._client.replicas(self._name), quiet_s=QUIET_S if over else STILL_THERE_S)
            if over:
                yield from self._last_words()
                return
            yield from self._come(looked)

    def _come(self, looked: float) -> Iterator[str]:
        """What comes until it is time to look again: soon when a log has ended, as the service may have."""
        deadline = looked + LOOK_EVERY_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                line = self._queue.get(timeout=left_s)
            except queue.Empty:
                return
            if line is None:
                deadline = min(deadline, max(looked + LOOK_AGAIN_S, time.monotonic()))
            else:
                yield line

    def _last_words(self) -> Iterator[str]:
        """All that the readers still bring, and unfinished lines."""
        deadline = time.monotonic() + LAST_WORDS_S
        while any(thread.is_alive() for thread in self._threads.values()) and time.monotonic() < deadline:
            try:
                line = self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
            if line is not None:
                yield line
        while not self._queue.empty():
            line = self._queue.get_nowait()
            if line is not None:
                yield line
        for place in self._places.values():
            yield from place.flush()

    def _read(self, replicas: list[str], *, quiet_s: float) -> None:
        """Have a reader for each replica that has none."""
        for replica in replicas:
            running = self._threads.get(replica)
            if running is None or not running.is_alive():
                place = self._place(replica, replicas)
                thread = threading.Thread(target=self._pump, args=(replica, place, quiet_s), daemon=True)
                self._threads[replica] = thread
                thread.start()

    def _pump(self, replica: str, place: Place, quiet_s: float) -> None:
        try:
            for line in place.lines(self._client.log(self._name, replica, quiet_s=quiet_s)):
                if self.left:
                    return
                self._queue.put(line)
        except MoorageError:
            return  # whoever looks next is told the same
        finally:
            self._queue.put(None)

    def _place(self, replica: str, replicas: list[str]) -> Place:
        return self._places.setdefault(replica, Place(_mark(replica, replicas)))


def _written(client: LeptonClient, name: str, replica: str) -> Iterator[bytes]:
    """What a replica wrote until now."""
    deadline = time.monotonic() + LONGEST_READ_S
    return takewhile(lambda _: time.monotonic() < deadline, client.log(name, replica, quiet_s=QUIET_S))


def _mark(replica: str, replicas: list[str]) -> str:
    return f"[{replica}] " if len(replicas) > 1 else ""
