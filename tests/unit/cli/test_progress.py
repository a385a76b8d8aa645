"""Progress: plain lines where there is no terminal, one moving line on a real one."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import TextIO

import pytest

from moorage.cli.progress import Progress

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_without_a_terminal_each_message_is_a_line_and_the_steps_of_a_bar_are_none() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.tell("pull", "image", 0.0, {})
    for done in range(100):
        progress.tell("pull", "image", 1.0, {"done_bytes": done, "total_bytes": 100})
    progress.tell("wait", "loading", 61.25, {})
    progress.end()
    assert stream.getvalue() == "[    0.0s] pull     image\n[   61.2s] wait     loading\n"


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A real terminal: the stream to write to, and the other end to read from."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield stream, ours
    os.close(ours)


def shown(ours: int) -> str:
    """What has come to the terminal, without its control sequences."""
    os.set_blocking(ours, False)
    text = b""
    while True:
        try:
            text += os.read(ours, 65536)
        except BlockingIOError:
            return CONTROL.sub("", text.decode()).replace("\r\n", "\n")


def test_on_a_terminal_a_line_moves_and_phases_stay(terminal: tuple[TextIO, int]) -> None:
    stream, ours = terminal
    progress = Progress(stream)
    progress.tell("pull", "the [image]", 0.1, {"done_bytes": 10, "total_bytes": 100})
    progress.tell("pull", "the [image]", 0.2, {"done_bytes": 100, "total_bytes": 100})
    progress.tell("wait", "loading", 2.5, {})
    progress.tell("warning", "it is old", 3.0, {})
    progress.tell("wait", "loading", 3.5, {})
    progress.end()
    progress.end()
    text = shown(ours)
    assert "the [image]" in text
    assert "  pull     done at 2.5 s\n" in text
    assert "warning: it is old\n" in text


def test_nothing_told_is_nothing_shown(terminal: tuple[TextIO, int]) -> None:
    stream, ours = terminal
    Progress(stream).end()
    assert shown(ours) == ""
