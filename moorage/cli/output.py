"""What a command prints: results on stdout, talk on stderr, errors once.

With `--json` stdout is one envelope (or NDJSON and then the envelope, for streams) and stderr is one JSON object a
line. On a terminal progress moves; elsewhere it is plain lines.
"""

from __future__ import annotations

import json
import sys
import time

from moorage.cli.progress import Progress
from moorage.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    Show = Callable[[dict[str, Any], "Output"], None]


class Output:
    """The two streams of one command. Also the `Report` that use cases talk to."""

    def __init__(self, *, as_json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.as_json = as_json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._begun = time.monotonic()
        self._progress = Progress(self._stderr)

    def __call__(self, phase: str, message: str, **numbers: float) -> None:
        """Tell of progress."""
        elapsed_s = round(time.monotonic() - self._begun, 1)
        if self.as_json:
            self._say({"event": phase, "message": message, "elapsed_s": elapsed_s, **numbers})
        else:
            self._progress.tell(phase, message, elapsed_s, numbers)

    def line(self, text: str) -> None:
        """A line of a person's result; nothing with `--json`."""
        if not self.as_json:
            self._progress.end()
            print(_printable(text), file=self._stdout, flush=True)

    def talk(self, text: str) -> None:
        """A line for people on stderr; an event with `--json`."""
        if self.as_json:
            self._say({"event": "note", "message": text})
        else:
            self._progress.end()
            print(_printable(text), file=self._stderr, flush=True)

    def stream(self, key: str, text: str) -> None:
        """One item of a stream: `{"line": …}` or `{"delta": …}`; for people a line, or text without a break."""
        if self.as_json:
            print(json.dumps({key: text}), file=self._stdout, flush=True)
            return
        self._progress.end()
        print(_printable(text), end="" if key == "delta" else "\n", file=self._stdout, flush=True)

    def success(self, data: dict[str, Any], show: Show) -> None:
        """The result."""
        self._progress.end()
        if self.as_json:
            print(json.dumps({"ok": True, "data": data}), file=self._stdout, flush=True)
        else:
            show(data, self)

    def failure(self, fault: MoorageError) -> None:
        """The error: message, what to do, what to type."""
        self._progress.end()
        if self.as_json:
            error = {"code": fault.code, "message": fault.message, "hint": fault.hint, "next": fault.next}
            body: dict[str, Any] = {"ok": False, "error": error}
            if fault.data is not None:
                body["data"] = fault.data
            print(json.dumps(body), file=self._stdout, flush=True)
            return
        lines = [f"error: {fault.message}"]
        lines += [f"  | {line}" for line in (fault.data or {}).get("log_tail", [])]
        lines += [f"  {_fault_line(one)}" for one in (fault.data or {}).get("faults", [])]
        lines += [f"hint:  {fault.hint}"] if fault.hint else []
        lines += [f"next:  {command}" for command in fault.next]
        print(_printable("\n".join(lines)), file=self._stderr, flush=True)

    def interrupted(self) -> None:
        """Ctrl-C where there was nothing to undo."""
        self.failure(MoorageError("interrupted", code="interrupted"))

    def help(self, text: str) -> None:
        """Help is a result even with `--json`: a person asked for it."""
        print(text, file=self._stdout, flush=True)

    def _say(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), file=self._stderr, flush=True)


def table(rows: list[list[str]]) -> list[str]:
    """Columns, aligned."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _fault_line(fault: Any) -> str:
    if isinstance(fault, dict) and "file" in fault:
        place = f"{fault['file']}:{fault.get('line', 0)} {fault.get('pointer', '')}"
        return f"{place}: {fault.get('message')}" + (f" ({fault['hint']})" if fault.get("hint") else "")
    return str(fault)


def _printable(text: str) -> str:
    """Lone surrogates (from broken file names) cannot be written: show them escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
