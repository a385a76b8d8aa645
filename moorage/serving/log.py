"""Structured logs of the control plane: one JSON object a line on stderr."""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from typing import IO, Any

from moorage.errors import MoorageError

__all__ = ["Log"]


class Log:
    """Where a control plane says what happens. Threads may share it."""

    def __init__(self, out: IO[str] | None = None) -> None:
        """`out`: None is stderr."""
        self._out = out if out is not None else sys.stderr
        self._lock = threading.Lock()

    def info(self, event: str, **fields: Any) -> None:
        """Something that happened."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that a person may want to change."""
        self._write("warning", event, fields)

    def fault(self, fault: BaseException, **fields: Any) -> None:
        """Something that went wrong; with its traceback when nobody expected it."""
        if isinstance(fault, MoorageError):
            self._write("error", fault.code, {"message": fault.message, "hint": fault.hint, **fields})
            return
        lines = traceback.format_exception(fault)
        self._write("error", "unexpected", {"message": repr(fault), "traceback": "".join(lines), **fields})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"at": at, "level": level, "event": event, **fields}, default=str)
        with self._lock:
            try:
                self._out.write(line + "\n")
                self._out.flush()
            except (OSError, ValueError):  # nobody reads the talk: no reason to fail
                return
