"""Signals held back, on real signals."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from moorage.launch.interrupts import (
    SIGNALS,
    held_back,
    ignore_signals,
    interruptible,
    raise_if_interrupted,
    terminate_like_ctrl_c,
)
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


@pytest.mark.parametrize("number", SIGNALS)
def test_what_takes_long_may_ask_for_the_signal_that_is_held_back(number):
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        raise_if_interrupted()
        os.kill(os.getpid(), number)
        done.append("whole so far")
        raise_if_interrupted()
        done.append("never")
    assert done == ["whole so far"]


def test_undoing_is_not_interrupted_by_asking():
    with held_back(forget=True):
        os.kill(os.getpid(), signal.SIGINT)
        raise_if_interrupted()


def test_work_that_waits_is_left_when_a_signal_comes():
    never, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        os.kill(os.getpid(), signal.SIGINT)
        never.wait(60)

    with pytest.raises(KeyboardInterrupt), held_back():
        interruptible(work)
    assert begun.is_set()
    never.set()


def test_work_that_waits_gives_its_result_or_its_fault():
    assert interruptible(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


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


@pytest.fixture
def as_a_program():
    """What a program changes for good is put back."""
    before, hook = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_ends_a_command_like_ctrl_c(as_a_program, number):
    terminate_like_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
        signal.pause()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_was_ignored_stays_ignored(as_a_program, number):
    signal.signal(number, signal.SIG_IGN)
    terminate_like_ctrl_c()
    os.kill(os.getpid(), number)
    with held_back():
        os.kill(os.getpid(), number)
    raise_if_interrupted()


class Unlucky:
    """Is interrupted while it is taken down."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_that_python_drops_is_not_lost(as_a_program, capfd):
    terminate_like_ctrl_c()
    Unlucky()
    assert capfd.readouterr().err == ""
    with pytest.raises(KeyboardInterrupt):
        raise_if_interrupted()
    with pytest.raises(KeyboardInterrupt), held_back():
        pytest.fail("the block must not begin")
    with held_back(forget=True):
        pass


def test_other_faults_that_python_drops_are_shown(as_a_program, capfd):
    class Faulty:
        def __del__(self):
            raise ZeroDivisionError

    terminate_like_ctrl_c()
    Faulty()
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_at_the_end_nothing_interrupts(as_a_program):
    ignore_signals()
    for number in SIGNALS:
        os.kill(os.getpid(), number)


def test_secrets_are_shown_by_name_and_short_values_are_left():
    lines = redact(["token=abcdefgh, x=abc"], {"HF_TOKEN": "abcdefgh", "TAO_API_KEY": "abc"})
    assert list(lines) == ["token=<HF_TOKEN>, x=abc"]


def test_a_secret_that_holds_another_one_is_no_less_hidden():
    secrets = {"HF_TOKEN": "abcdefgh", "NGC_API_KEY": "abcdefgh-and-more"}
    assert list(redact(["abcdefgh-and-more, abcdefgh"], secrets)) == ["<NGC_API_KEY>, <HF_TOKEN>"]


def test_a_secret_is_hidden_whatever_blanks_and_breaks_it_was_exported_with():
    lines = redact(["token=abcdefgh", "a second line"], {"HF_TOKEN": "\tabcdefgh \r\na second line\n"})
    assert list(lines) == ["token=<HF_TOKEN>", "<HF_TOKEN>"]
