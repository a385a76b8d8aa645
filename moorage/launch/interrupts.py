"""Signals while something must not be torn: held back, and delivered afterwards."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def terminate_like_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, so that it undoes what it began. Main thread only.

    A signal that the caller had ignored (nohup does) stays ignored, here and in `held_back`.
    """
    interrupt = _Interrupt()
    for number in _heeded(SIGNALS):
        signal.signal(number, interrupt)
    sys.unraisablehook = _show_unraisable


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt that was lost, if one was: Python drops exceptions that leave a destructor. Inside
    `held_back`, raise the one that is held back.

    To be called in loops that may run long, and before anything that cannot be undone.
    """
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if isinstance(handler, _Interrupt | _HeldBack) and handler.came:
            raise KeyboardInterrupt


def interruptible(work: Callable[[], Result]) -> Result:
    """Do work that waits where no signal is noticed, as for a pull inside `held_back`: its result.

    When a signal came, KeyboardInterrupt is raised and the work is left behind in its thread: the caller then closes
    what it works on.
    """
    import threading

    results: list[Result] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        raise_if_interrupted()
    if faults:
        raise faults[0]
    return results[0]


def ignore_signals() -> None:
    """From here on nothing interrupts this process. Main thread only."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_back(*, forget: bool = False) -> Iterator[None]:
    """Run the block whole: a signal that came meanwhile raises KeyboardInterrupt after it, unless `forget`.

    For short steps between two consistent states, and (with `forget`) for undoing.
    """
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not forget:
        raise_if_interrupted()
    held = _HeldBack(forget=forget)
    before = {number: signal.signal(number, held) for number in _heeded(SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held.came:
        raise KeyboardInterrupt


def _heeded(numbers: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _show_unraisable(fault: sys.UnraisableHookArgs) -> None:
    """Without the interrupts that Python drops: they are remembered."""
    if not issubclass(fault.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(fault)


class _HeldBack:
    """A signal handler that remembers that a signal came, unless it is to `forget`."""

    __slots__ = ("came", "forget")

    def __init__(self, *, forget: bool) -> None:
        self.came = False
        self.forget = forget

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.came = not self.forget


class _Interrupt:
    """A signal handler that raises KeyboardInterrupt, and remembers that it did."""

    __slots__ = ("came",)

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt
