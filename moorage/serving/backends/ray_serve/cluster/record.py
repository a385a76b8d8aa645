"""What is noted down of a cluster, so that every later process finds it: a file of the user's own."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

__all__ = ["ClusterRecord", "read_record", "write_private", "write_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """One start of one cluster. Written before the process is there, and again when it is."""

    cluster_id: str
    pid: int | None = None
    """Of the process that leads its session; None: it was about to be started."""
    started: str | None = None
    """With the pid, its identity."""
    dashboard_port: int
    proxy_port: int
    temp_dir: str
    token_file: str
    log_file: str
    begun_at: float
    """Unix seconds."""
    failures: int = 0
    """Starts before this one that ended soon, in a row."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"


def read_record(file: Path) -> ClusterRecord | None:
    """None when there is none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        known = {field.name for field in fields(ClusterRecord)}
        return ClusterRecord(**{name: value for name, value in found.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_record(file: Path, record: ClusterRecord) -> None:
    """Whole or not at all."""
    unfinished = file.with_suffix(".new")
    write_private(unfinished, json.dumps(asdict(record), indent=1) + "\n")
    unfinished.replace(file)


def write_private(file: Path, text: str) -> None:
    """A file that nobody else may read, from its first byte on."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
