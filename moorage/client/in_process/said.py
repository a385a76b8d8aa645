"""What the recording parts log, told to Python's logging in place of stderr."""

from __future__ import annotations

import io
import logging

__all__ = ["ToLogging"]


class ToLogging(io.TextIOBase):
    """A file whose lines become records of the logger `moorage.client`."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("moorage.client")

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text.strip():
            level = logging.WARNING if '"level":"warning"' in text else logging.INFO
            self._logger.log(logging.ERROR if '"level":"error"' in text else level, "%s", text.strip())
        return len(text)
