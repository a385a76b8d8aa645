"""What a server of ours says on stderr, an event a line, and where it says that it listens."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterable

__all__ = ["ServerLines"]

START_WITHIN_S = 90


class ServerLines:
    """Reads the lines as they come, in a thread of its own."""

    def __init__(self, stderr: Iterable[str]) -> None:
        self.said: list[str] = []
        """Every line until now."""
        self._stderr = stderr
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def listening_port(self) -> int | None:
        """The port that it tells; None: it ended, or did not tell in time."""
        until = time.monotonic() + START_WITHIN_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if line is None:
                return None
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "listening":
                    return int(event["port"])

    def _read(self) -> None:
        for line in self._stderr:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put(None)
