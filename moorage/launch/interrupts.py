"""Signals while something must not be torn: held back, and delivered afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def terminate_like_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, so that it undoes what it began. Main thread only.

    A signal that the caller had ignored (nohup does) stays ignored, here and in `held_back`.
    """
    for number in _heeded((signal.SIGTERM, signal.SIGHUP)):
        signal.signal(number, _raise)


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
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in _heeded(SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came and not forget:
        raise KeyboardInterrupt


def _heeded(numbers: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
