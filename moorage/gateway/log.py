"""Structured logs: one JSON object a line on stderr, each with the id of its request."""

from __future__ import annotations

import sys
import time
import traceback
from typing import IO, TYPE_CHECKING, Any

import msgspec

from moorage.errors import MoorageError
from moorage.gateway.auth.key_text import without_keys

if TYPE_CHECKING:
    from moorage.gateway.http.request import Request

__all__ = ["Log"]


class Log:
    """Where the gateway says what happens. `access`: a line for every request, off unless asked for."""

    def __init__(self, out: IO[str] | None = None, *, access: bool = False, worker: int | None = None) -> None:
        """`worker`: stands in every line; None: there is only one."""
        self._out = out if out is not None else sys.stderr
        self._access = access
        self._who = {} if worker is None else {"worker": worker}

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

    def access(self, request: Request, status: int, began: float) -> None:
        """A request that was answered. `began`: of `time.perf_counter`."""
        if self._access:
            took_s = round(time.perf_counter() - began, 6)
            fields = {"method": request.method, "path": request.path, "status": status, "took_s": took_s}
            self._write("info", "request", {"request_id": request.id, **fields})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = msgspec.json.encode({"at": at, "level": level, "event": event, **self._who, **fields}, enc_hook=str)
        self._out.write(without_keys(line).decode() + "\n")
        self._out.flush()
