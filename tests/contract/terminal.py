"""A command on a real terminal, which somebody types at."""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WAIT_S = 60.0


class Terminal:
    """`moor` with the terminal as its own: stdin, stderr, and Ctrl-C; stdout goes into a pipe. Use as a context."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moorage.cli.main", *words],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**environ, "PYTHONPATH": str(CHECKOUT), "TERM": "xterm"},
            text=True,
            start_new_session=True,
            preexec_fn=_own_the_terminal,
        )
        os.close(theirs)
        self._shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    @property
    def shown(self) -> str:
        """What came to the terminal so far, without its control sequences."""
        return CONTROL.sub("", self._shown).replace("\r\n", "\n")

    def type_at(self, prompt: str, text: str) -> None:
        """Wait until the screen ends with the prompt, and type."""
        self._read_until(lambda: self.shown.endswith(prompt), prompt)
        os.write(self._ours, text.encode())

    def await_text(self, text: str) -> None:
        self._read_until(lambda: text in self.shown, text)

    def press_ctrl_c(self) -> None:
        os.write(self._ours, b"\x03")

    def finish(self) -> tuple[int, str]:
        """(exit status, stdout)"""
        self._read_until(lambda: self._process.poll() is not None, "the end")
        while self._read():
            pass
        out, _ = self._process.communicate(timeout=WAIT_S)
        return self._process.returncode, out

    def _read_until(self, reached: object, what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not reached():  # type: ignore[operator]
            assert time.monotonic() < deadline, f"never shown: {what!r} in {self.shown!r}"
            self._read()

    def _read(self) -> bool:
        """Take what has come; False when nothing more comes."""
        if not select.select([self._ours], [], [], 0.1)[0]:
            return False
        try:
            piece = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            return False
        self._shown += piece.decode()
        return bool(piece)


def _own_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
