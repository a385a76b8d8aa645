"""What a command prints: results on stdout, talk on stderr, errors once.

With `--json` stdout is one envelope (or NDJSON and then the envelope, for streams) and stderr is one JSON object a
line. On a terminal progress moves; elsewhere it is plain lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

from moorage.cli.progress import Progress
from moorage.errors import ConflictError, MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    Show = Callable[[dict[str, Any], "Output"], None]


class Output:
    """The two streams of one command. Also the `Report` that use cases talk to."""

    def __init__(self, *, as_json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.as_json = as_json
        self._stdout = stdout or sys.stdout or _nowhere()
        self._stderr = stderr or sys.stderr or _nowhere()
        self._begun = time.monotonic()
        self._progress = Progress(self._stderr)

    def __call__(self, phase: str, message: str, **numbers: float) -> None:
        """Tell of progress."""
        elapsed_s = round(time.monotonic() - self._begun, 1)
        if self.as_json:
            self._say({"event": phase, "message": message, "elapsed_s": elapsed_s, **numbers})
            return
        with contextlib.suppress(OSError):  # nobody listens to the talk: no reason to fail
            self._progress.tell(phase, message, elapsed_s, numbers)

    def line(self, text: str) -> None:
        """A line of a person's result; nothing with `--json`."""
        if not self.as_json:
            self._result(text)

    def talk(self, text: str) -> None:
        """A line for people on stderr; an event with `--json`."""
        if self.as_json:
            self._say({"event": "note", "message": text})
            return
        self._talk(text)

    def stream(self, key: str, text: str) -> None:
        """One item of a stream: `{"line": …}` or `{"delta": …}`; for people a line, or text without a break."""
        if self.as_json:
            self._result(json.dumps({key: text}))
        else:
            self._result(text, end="" if key == "delta" else "\n")

    def success(self, data: dict[str, Any], show: Show) -> None:
        """The result."""
        if self.as_json:
            self._result(json.dumps({"ok": True, "data": data}))
            return
        self._end_progress()
        show(data, self)

    def failure(self, fault: MoorageError) -> int:
        """The error: message, what to do, what to type; the exit status. Raises nothing, whoever listens."""
        if not self.as_json:
            self._talk(_told(fault))
            return fault.exit_status
        error = {"code": fault.code, "message": fault.message, "hint": fault.hint, "next": fault.next}
        body: dict[str, Any] = {"ok": False, "error": error}
        if fault.data is not None:
            body["data"] = fault.data
        try:
            self._result(json.dumps(body))
        except (OSError, ConflictError):
            self.abandon()
            self._say({"event": "error", **error})
        return fault.exit_status

    def help(self, text: str) -> None:
        """What was asked for with --help."""
        self._result(json.dumps({"ok": True, "data": {"help": text}}) if self.as_json else text)

    def abandon(self) -> None:
        """Nobody reads stdout any more: let what is left in its buffer go nowhere, instead of failing at exit."""
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())

    def _result(self, text: str, end: str = "\n") -> None:
        self._end_progress()
        try:
            print(_printable(text, self._stdout), end=end, file=self._stdout, flush=True)
        except BrokenPipeError:
            raise
        except OSError as fault:
            raise ConflictError(
                f"the result could not be written: {fault.strerror or fault}",
                code="result_unwritable",
                hint="what the command did stays done: look before it is run again",
                next=["moor list"],
            ) from fault

    def _talk(self, text: str) -> None:
        self._end_progress()
        with contextlib.suppress(OSError):
            print(_printable(text, self._stderr), file=self._stderr, flush=True)

    def _end_progress(self) -> None:
        with contextlib.suppress(OSError):
            self._progress.end()

    def _say(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            # In one piece: other processes of the same command write there too.
            print(json.dumps(event) + "\n", end="", file=self._stderr, flush=True)


def _told(fault: MoorageError) -> str:
    """An error for people."""
    lines = [f"error: {fault.message}"]
    lines += [f"  | {line}" for line in (fault.data or {}).get("log_tail", [])]
    lines += [f"  {_fault_line(one)}" for one in (fault.data or {}).get("faults", [])]
    lines += [f"hint:  {fault.hint}"] if fault.hint else []
    lines += [f"next:  {command}" for command in fault.next]
    return "\n".join(lines)


def table(rows: list[list[str]]) -> list[str]:
    """Columns, aligned."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _fault_line(fault: Any) -> str:
    if isinstance(fault, dict) and "file" in fault:
        place = f"{fault['file']}:{fault.get('line', 0)} {fault.get('pointer', '')}"
        return f"{place}: {fault.get('message')}" + (f" ({fault['hint']})" if fault.get("hint") else "")
    return str(fault)


def _printable(text: str, stream: TextIO) -> str:
    """What the stream cannot encode is shown escaped: lone surrogates (from broken file names), and more in ASCII."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _nowhere() -> TextIO:
    """In the place of a stream that was closed when the command began."""
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
