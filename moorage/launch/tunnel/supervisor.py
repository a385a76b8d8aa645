"""One tunnel as a process: `python -m moorage.launch.tunnel.supervisor`, its specification on stdin.

The starter has bound the local port and hands the listening socket down. Whatever connects while the way is broken is
closed at once, as if nothing listened. It never gives up while it lives, and ends within a second of SIGTERM.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from moorage.errors import MoorageError
from moorage.launch.tunnel.keeper import Keeper
from moorage.launch.tunnel.pump import pump
from moorage.launch.tunnel.route import open_route
from moorage.launch.tunnel.state_file import state_path, write_state

END_S = 0.9
"""How long it may take to end what it holds: connections, and a connect that is under way."""
CLOSE_S = 0.5
"""How much of that is for closing a route that hangs."""
STACK_BYTES = 512 << 10
"""Of each thread: two serve one connection, and do little."""


class StateTeller:
    """Writes the state file when something has changed, or the file is gone; and a line of the log for each change."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._told: tuple[str, str | None, str | None] | None = None
        self._since = ""

    def __call__(self, state: str, detail: str | None, target: str | None) -> None:
        now = state, detail, target
        if now == self._told and Path(self._path).exists():
            return
        if now != self._told:
            same = self._told is not None and self._told[0] == state
            self._since = self._since if same else datetime.now(UTC).isoformat()
            say(" ".join(word for word in (state, target, detail) if word))
            self._told = now
        # A full or vanished disk is no reason to let connections go.
        with suppress(OSError):
            write_state(self._path, {"state": state, "detail": detail, "since": self._since, "target": target})


def serve(listener: socket.socket, keeper: Keeper, woken: socket.socket) -> NoReturn:
    """Accept connections until a signal's handler raises; `woken` can be read when a signal has come."""
    listener.setblocking(False)
    while True:
        # Not accept alone: a signal that comes just before it would wait for the next connection.
        select.select([listener, woken], [], [])
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue
        except OSError as fault:  # out of descriptors, for one
            say(f"a connection was not accepted: {fault}")
            time.sleep(0.1)
            continue
        threading.Thread(target=_lead, args=(connection, keeper), daemon=True).start()


def say(text: str) -> None:
    """A line of the log."""
    with suppress(OSError):
        sys.stderr.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")
        sys.stderr.flush()


def main() -> None:
    """Run as a process of its own. Exit 1 when the specification is none."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.stack_size(STACK_BYTES)
    spec = json.load(sys.stdin)
    os.environ.pop("MOORAGE_TUNNEL", None)  # what a route starts is no supervisor
    listener = socket.socket(fileno=int(spec["listener"]))
    try:
        route = open_route(spec["route"], dict(os.environ))
    except MoorageError as fault:
        say(fault.message)
        sys.exit(1)
    keeper = Keeper(route, tell=StateTeller(state_path(spec["job_id"], os.environ)), jitter=random.random)
    keeping = threading.Thread(target=keeper.run, daemon=True)
    try:
        keeping.start()
        serve(listener, keeper, woken)
    finally:
        # In a thread of its own: a connection that hangs must not keep the process.
        deadline = time.monotonic() + END_S
        ending = threading.Thread(target=keeper.end, daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        _break_off(keeping, deadline)
        os._exit(0)


def _break_off(keeping: threading.Thread, deadline: float) -> None:
    """End what a route has started, an ssh that still connects for one; a connect may take several, one by one."""
    _end_children()
    while keeping.is_alive() and time.monotonic() < deadline:
        keeping.join(0.02)
        _end_children()


def _end_children() -> None:
    for thread in threading.enumerate():
        # Each thread has children of its own, and may be gone by now.
        with suppress(OSError):
            for pid in Path(f"/proc/self/task/{thread.native_id}/children").read_text().split():
                os.kill(int(pid), signal.SIGTERM)


def _lead(connection: socket.socket, keeper: Keeper) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        stream = keeper.open()
    except Exception as fault:
        say(f"a connection was not led on: {type(fault).__name__}: {fault}")
        stream = None
    if stream is None:
        connection.close()
        return
    if not pump(connection, stream):
        keeper.doubt()


if __name__ == "__main__":
    main()
