"""Put into a gateway's processes by `PYTHONPATH`: on SIGUSR1 each tells its asyncio tasks and threads in a file.

So the product needs nothing for a soak. `MOORAGE_SOAK_PROBE` is the folder; `PID.json` there means that PID listens.
"""

import asyncio
import collections
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def _tell(*_: Any) -> None:
    try:
        tasks = [getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks()]
    except RuntimeError:  # no loop runs here
        tasks = []
    threads = [thread.name for thread in threading.enumerate()]
    _write({"tasks": collections.Counter(tasks), "threads": threads})


def _write(said: dict[str, Any]) -> None:
    whole = FOLDER / f"{os.getpid()}.json"
    part = whole.with_suffix(".part")
    part.write_text(json.dumps(said))
    part.rename(whole)


if "MOORAGE_SOAK_PROBE" in os.environ and sys.platform != "win32":
    FOLDER = Path(os.environ["MOORAGE_SOAK_PROBE"])
    signal.signal(signal.SIGUSR1, _tell)
    _write({})
