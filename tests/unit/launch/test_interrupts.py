"""Signals held back, on real signals."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from moorage.launch.interrupts import SIGNALS, held_back, terminate_like_ctrl_c
from moorage.launch.redact import redact


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_until_the_block_is_whole(number):
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        os.kill(os.getpid(), number)
        done.append(True)
    assert done == [True]


def test_a_signal_while_undoing_is_forgotten():
    with held_back(forget=True):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with held_back():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_block_wins():
    with pytest.raises(ZeroDivisionError), held_back():
        raise ZeroDivisionError


def test_another_thread_runs_the_block_as_it_is():
    ran = []

    def work():
        with held_back():
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert ran == [True]


def test_sigterm_ends_a_command_like_ctrl_c():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    hook = sys.unraisablehook
    try:
        terminate_like_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def test_secrets_are_shown_by_name_and_short_values_are_left():
    lines = redact(["token=abcdefgh, x=abc"], {"HF_TOKEN": "abcdefgh", "TAO_API_KEY": "abc"})
    assert list(lines) == ["token=<HF_TOKEN>, x=abc"]
