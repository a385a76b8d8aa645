"""`moor trace replay` as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.contract.gateway_process import END_WITHIN_S, ROOT


class ReplayProcess:
    """On a free port; `url` is where it answers."""

    def __init__(self, db: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moorage.cli.main", "trace", "replay", *words, "--port", "0", "--db", db, "--json"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        said = ""
        while '"listening"' not in said:
            said = self.process.stderr.readline()
            if not said:
                raise AssertionError(f"the replay did not start: {self.process.communicate(timeout=60)}")
        self.port = json.loads(said)["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> tuple[int, dict[str, object]]:
        """End it as a service manager does: its exit status and its envelope."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=END_WITHIN_S)
        return self.process.returncode, json.loads(out)


@contextlib.contextmanager
def replaying(db: str, *words: str) -> Iterator[ReplayProcess]:
    """Gone at the end."""
    replay = ReplayProcess(db, *words)
    try:
        yield replay
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(replay.process.pid, signal.SIGKILL)
        replay.process.wait(END_WITHIN_S)
