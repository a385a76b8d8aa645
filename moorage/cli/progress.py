"""Progress on stderr: one moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

KEPT_PHASES = frozenset({"warning", "undo", "stop"})
"""Phases whose message stays on the terminal."""


class Progress:
    """Phases with their elapsed time; bytes as a bar. rich is imported at the first message on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._moving: RichProgress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._last = ""

    def tell(self, phase: str, message: str, elapsed_s: float, numbers: Mapping[str, float]) -> None:
        """Show a message of a phase."""
        if self._stream.isatty():
            self._move(phase, message, elapsed_s, numbers)
            return
        if numbers.get("done_bytes") is not None and f"{phase} {message}" == self._last:
            return  # a bar's steps are for terminals
        self._last = f"{phase} {message}"
        print(f"[{elapsed_s:7.1f}s] {phase:<8} {message}", file=self._stream, flush=True)

    def end(self) -> None:
        """Take the moving line away before something else is printed."""
        if self._moving is not None:
            self._moving.stop()
            self._moving = self._task = None

    def _move(self, phase: str, message: str, elapsed_s: float, numbers: Mapping[str, float]) -> None:
        if phase in KEPT_PHASES:
            self.end()
            print(f"{phase}: {message}", file=self._stream, flush=True)
            return
        if phase != self._phase and self._moving is not None:
            self.end()
            print(f"  {self._phase:<8} done at {elapsed_s:.1f} s", file=self._stream, flush=True)
        self._phase = phase
        if self._moving is None:
            self._moving = _open_bar(self._stream)
            self._moving.start()
            self._task = self._moving.add_task(message, total=None, phase=phase)
        assert self._task is not None
        total = numbers.get("total_bytes")
        self._moving.update(
            self._task, description=message, phase=phase, total=total, completed=numbers.get("done_bytes", 0)
        )


def _open_bar(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console: Console = Console(file=stream)
    columns = [SpinnerColumn(), TextColumn("{task.fields[phase]:<8}"), TextColumn("{task.description}", markup=False)]
    return Bar(*columns, BarColumn(bar_width=20), TimeElapsedColumn(), console=console, transient=True)
