"""What is said of a campaign while it goes on."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from tests.campaigns.findings import Findings
from tests.campaigns.telling import telling


class Heard(io.StringIO):
    """Says when a text was written to it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.there = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._text in self.getvalue():
            self.there.set()
        return written


def told(text: str, fill: list[str], *, terminal: bool) -> str:
    """All that was said until `text` came, of a campaign with two kills and the faults of `fill`."""
    heard = Heard(text)
    with telling(Console(file=heard, force_terminal=terminal, width=200), look_s=0.01, line_s=0.02) as watch:
        findings = watch(Findings("kill [-9] of it", 7))
        findings.count("kills", 2)
        findings.faults += fill
        assert heard.there.wait(20)
    return heard.getvalue()


def test_figures_come_line_by_line_where_nothing_can_be_written_in_place() -> None:
    said = told("kills 2, faults 0", [], terminal=False)
    assert said.startswith("kill [-9] of it, seed 7\n")
    assert ", kills 2, faults 0\n" in said


def test_and_in_place_on_a_terminal() -> None:
    assert "\x1b[2K" in told("kills 2, faults 0", [], terminal=True)


def test_each_fault_is_told_once_as_it_is_written() -> None:
    said = told("fault: second", ["first [of] two", "second"], terminal=False)
    assert said.count("fault: first [of] two\n") == 1


def test_what_comes_last_is_told_too() -> None:
    heard = Heard("fault: last")
    with telling(Console(file=heard), look_s=1000) as watch:
        watch(Findings("it", 7)).fault("last")
    assert "fault: last" in heard.getvalue()
