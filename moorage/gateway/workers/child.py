"""One worker as its parent sees it: a forked process, what it said when it started, when it died."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable

from moorage.errors import MoorageError
from moorage.gateway.workers.report import said_fault, said_ready

__all__ = ["Child", "Work", "fork_worker"]

Work = Callable[[Callable[[str], None]], None]
"""What a worker does until it is told to stop; it calls its argument with its URL when it listens."""

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


class Child:
    """A worker that was started and not yet collected."""

    def __init__(self, index: int, pid: int, said: int) -> None:
        self.index = index
        self.pid = pid
        self.said_end = said
        """A pipe: what the worker says, then its end."""
        self.said = b""
        self.ready_at: float | None = None
        """When it listened, of the parent's clock; None: not yet."""

    def read(self) -> bool:
        """Take what it says; whether it has said all."""
        piece = os.read(self.said_end, 65536)
        self.said += piece
        if piece:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Hear no more of it."""
        if self.said_end >= 0:
            os.close(self.said_end)
            self.said_end = -1

    def tell(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def collected(self) -> int | None:
        """Its exit status, negative for a signal; None: it runs."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        return os.waitstatus_to_exitcode(status) if pid else None


def fork_worker(index: int, work: Work, not_for_it: Callable[[], None]) -> Child:
    """Start one. `not_for_it` closes, in the worker, what is the parent's alone. The parent must have no threads."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return Child(index, pid, ours)
    status = 70
    try:
        os.close(ours)
        _heed_nothing_of_the_parents()
        not_for_it()
        status = _run(work, theirs)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(work: Work, theirs: int) -> int:
    """The exit status. What goes wrong before it listens is the parent's to tell."""

    def say(words: bytes) -> None:
        with contextlib.suppress(OSError):  # the parent has died: the end of the lifeline says so too
            os.write(theirs, words)
        os.close(theirs)

    listening: list[str] = []

    def ready(url: str) -> None:
        listening.append(url)
        say(said_ready(url))

    try:
        work(ready)
    except MoorageError as fault:
        if not listening:
            say(said_fault(fault))
        else:
            traceback.print_exc()
        return fault.exit_status
    return 0


def _heed_nothing_of_the_parents() -> None:
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent decides what the end of a terminal means
