"""The parent of several workers: holds their port, keeps them alive, tells them to stop, and does nothing else.

It imports little and has one thread, so that forking is safe and costs no memory. Workers share nothing with it but a
pipe, whose end tells them that it has died; then they drain.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from moorage.errors import FailedError, MoorageError
from moorage.gateway.log import Log
from moorage.gateway.workers.child import HANDLED, Child, fork_worker
from moorage.gateway.workers.folder import sockets_folder
from moorage.gateway.workers.member import Member
from moorage.gateway.workers.pauses import STEADY_S, pause_s
from moorage.gateway.workers.port import hold_port, join_port
from moorage.gateway.workers.report import fault_of, url_of

__all__ = ["Worker", "supervise"]

Worker = Callable[[Member, socket.socket, Callable[[str], None]], None]
"""Runs one worker on its socket until it is told to stop, in a process of its own."""

LATEST_S = 15.0
"""After the time that workers have to drain, they are killed."""


def supervise(
    worker: Worker,
    *,
    host: str,
    port: int,
    count: int,
    drain_s: float,
    reloads: bool,
    log: Log,
    listening: Callable[[str], None],
) -> None:
    """Run `count` workers until SIGINT or SIGTERM, then let them drain. `listening(url)`: all of them answer.

    `reloads`: SIGHUP has the workers read something again; else it ends them too, as the end of a terminal does.

    Raises what the first worker that could not start raised, ConflictError for a port in use, and KeyboardInterrupt
    when it was told to stop before all had started, or told twice.
    """
    with hold_port(host, port) as held, sockets_folder() as folder:
        parent = _Parent(worker, held, folder, count, log)
        parent.drain_s, parent.reloads = drain_s, reloads
        try:
            parent.run(listening)
        finally:
            parent.close()


class _Parent:
    def __init__(self, worker: Worker, held: socket.socket, folder: Path, count: int, log: Log) -> None:
        self._worker, self._held, self._folder, self._count = worker, held, folder, count
        self._log = log
        self.drain_s = 30.0
        """What workers have to end the requests in flight."""
        self.reloads = False
        """SIGHUP is the workers'."""
        self._children: dict[int, Child] = {}
        """By index; one that died is not among them."""
        self._deaths = dict.fromkeys(range(count), 0)
        self._due: dict[int, float] = {}
        """When those that died are started again, of the monotonic clock."""
        self._all_ready = False
        self._told = 0
        """Signals to stop that came."""
        self._fault: MoorageError | None = None
        """Why not all could start."""
        self._kill_at: float | None = None
        self._lifeline = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._wakes, self._waker = os.pipe()
        for end in (self._wakes, self._waker):
            os.set_blocking(end, False)
        self._selector.register(self._wakes, selectors.EVENT_READ, None)
        self._before = {number: signal.getsignal(number) for number in (*HANDLED, signal.SIGHUP)}

    def run(self, listening: Callable[[str], None]) -> None:
        """Until all workers have ended."""
        self._heed()
        for index in range(self._count):
            self._start(index)
        while self._children or (self._due and not self._stopping):
            self._wait()
            self._collect()
            self._start_due()
            if not self._all_ready and all(self._is_ready(index) for index in range(self._count)):
                self._all_ready = True
                listening(self._url)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill()
        if self._fault is not None:
            raise self._fault
        if not self._all_ready or self._told > 1:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Leave nothing running, and the signals as they were."""
        self._kill()
        for child in self._children.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
            child.close()
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._selector.close()
        for end in (*self._lifeline, self._wakes, self._waker):
            os.close(end)

    # Signals.

    @property
    def _stopping(self) -> bool:
        return self._told > 0 or self._fault is not None

    def _heed(self) -> None:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        if self.reloads:
            signal.signal(signal.SIGHUP, self._pass_on)
        elif self._before[signal.SIGHUP] is not signal.SIG_IGN:  # nohup has it ignored
            signal.signal(signal.SIGHUP, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """The first signal drains; another one ends what is left at once."""
        self._told += 1
        if self._told > 1:
            self._kill()
        else:
            self._drain()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        for child in self._children.values():
            child.tell(signal.Signals(number))

    def _drain(self) -> None:
        self._kill_at = time.monotonic() + self.drain_s + LATEST_S
        for child in self._children.values():
            child.tell(signal.SIGTERM)

    def _kill(self) -> None:
        for child in self._children.values():
            child.tell(signal.SIGKILL)

    # Workers.

    @property
    def _url(self) -> str:
        """All say the same one."""
        return next(url for child in self._children.values() if (url := url_of(child.said)) is not None)

    def _is_ready(self, index: int) -> bool:
        child = self._children.get(index)
        return child is not None and child.ready_at is not None

    def _start(self, index: int) -> None:
        host, port = self._held.getsockname()[:2]
        try:
            bound = join_port(host, port)
        except OSError as fault:  # it was taken while no worker listened
            self._log.warning("port_lost", worker=index, why=str(fault))
            self._died(index, steady=False)
            return
        with bound:
            member = Member(
                index=index, count=self._count, folder=self._folder, lifeline=self._lifeline[0], again=self._all_ready
            )
            child = fork_worker(index, lambda ready: self._worker(member, bound, ready), self._not_for_workers)
        self._children[index] = child
        self._selector.register(child.said_end, selectors.EVENT_READ, child)
        self._log.info("worker_started", worker=index, pid=child.pid)
        if self._stopping:  # the signal came while it was forked
            child.tell(signal.SIGTERM)

    def _not_for_workers(self) -> None:
        self._selector.close()
        self._held.close()
        for end in (self._lifeline[1], self._wakes, self._waker):
            os.close(end)
        for child in self._children.values():
            child.close()

    def _wait(self) -> None:
        moments = [*self._due.values()] if not self._stopping else []
        if self._kill_at is not None:
            moments.append(self._kill_at)
        timeout_s = max(0.0, min(moments) - time.monotonic()) if moments else None
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakes, 4096)
            else:
                self._hear(key.data)

    def _hear(self, child: Child) -> None:
        end = child.said_end
        if not child.read():
            return
        self._selector.unregister(end)
        if url_of(child.said) is not None:
            child.ready_at = time.monotonic()
            self._log.info("worker_ready", worker=child.index, pid=child.pid)

    def _collect(self) -> None:
        for child in list(self._children.values()):
            status = child.collected()
            if status is None:
                continue
            while child.said_end >= 0:  # what it said last is in the pipe
                self._hear(child)
            del self._children[child.index]
            self._ended(child, status)

    def _ended(self, child: Child, status: int) -> None:
        if self._stopping:
            return
        steady = child.ready_at is not None and time.monotonic() - child.ready_at >= STEADY_S
        fault = fault_of(child.said)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        if not self._all_ready and child.ready_at is None:
            self._fault = fault or FailedError(
                f"worker {child.index} ended with {how} before it answered",
                code="worker_died",
                hint="its last words are above",
            )
            self._drain()
            return
        if fault is not None:
            self._log.fault(fault, worker=child.index)
        self._log.warning("worker_died", worker=child.index, pid=child.pid, how=how)
        self._died(child.index, steady=steady)

    def _died(self, index: int, *, steady: bool) -> None:
        self._deaths[index] = 1 if steady else self._deaths[index] + 1
        self._due[index] = time.monotonic() + pause_s(self._deaths[index])

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, due in self._due.items() if due <= now]:
            if self._stopping:
                return
            del self._due[index]
            self._start(index)
