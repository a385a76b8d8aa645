"""How far a campaign is, on stderr: its seed first, faults as they come, its figures in place or line by line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.status import Status

from tests.campaigns.findings import Findings

__all__ = ["Watch", "telling", "unwatched"]

LOOK_S = 1.0
LINE_S = 30.0
"""Between two lines where nothing can be written in place."""

Watch = Callable[[Findings], Findings]
"""Is given what a campaign will fill, when it begins, and gives it back."""


def unwatched(findings: Findings) -> Findings:
    """Nothing is told before the end."""
    return findings


@contextmanager
def telling(console: Console, *, look_s: float = LOOK_S, line_s: float = LINE_S) -> Iterator[Watch]:
    """What the watch is given is told of from then on."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def watch(findings: Findings) -> Findings:
        console.print(f"{findings.title}, seed {findings.seed}", markup=False, highlight=False)
        teller = _Teller(console, findings, look_s, line_s)
        threads.append(threading.Thread(target=teller.run, args=(over,), daemon=True))
        threads[-1].start()
        return findings

    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()


class _Teller:
    def __init__(self, console: Console, findings: Findings, look_s: float, line_s: float) -> None:
        self._console, self._findings = console, findings
        self._look_s, self._line_s = look_s, line_s
        self._begun = self._told_at = time.monotonic()
        self._faults = 0

    def run(self, over: threading.Event) -> None:
        with self._console.status("") if self._console.is_terminal else nullcontext() as status:
            while not over.wait(self._look_s):
                self._look(status)
            self._tell_faults()

    def _look(self, status: Status | None) -> None:
        self._tell_faults()
        now = time.monotonic()
        if status is not None:
            status.update(self._so_far(now))
        elif now - self._told_at >= self._line_s:
            self._told_at = now
            self._print(self._so_far(now))

    def _tell_faults(self) -> None:
        for fault in self._findings.faults[self._faults :]:
            self._faults += 1
            self._print(f"fault: {fault}")

    def _so_far(self, now: float) -> str:
        minutes, seconds = divmod(int(now - self._begun), 60)
        figures = [f"{what} {number}" for what, number in dict(self._findings.counts).items()]
        return ", ".join((f"{minutes}:{seconds:02}", *figures, f"faults {len(self._findings.faults)}"))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
