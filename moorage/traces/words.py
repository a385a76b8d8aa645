"""Words and times that several views of a trace share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from moorage.traces.showing.pieces import plain

__all__ = ["list_table", "named", "when"]


def when(at: float | None) -> str:
    """Unix seconds as UTC; "-": none."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def named(counts: Mapping[str, int]) -> str:
    """`3 exact, 1 branch`: those that are not zero."""
    return ", ".join(f"{many} {name}" for name, many in counts.items() if many) or "-"


def list_table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows of `moor trace list`, with their head."""
    head = ["UID", "KIND", "CHANNEL", "STATE", "CALLS", "PROMPT", "SAMPLED", "BOUNDARIES", "CREATED", "LAST CALL"]
    return [head, *(_line(row) for row in rows)]


def _line(row: Mapping[str, Any]) -> list[str]:
    apart = [f"{row[name]} {name}" for name in ("undelivered", "late", "unreadable") if row[name]]
    calls = f"{row['calls']} ({', '.join(apart)})" if apart else str(row["calls"])
    tokens = row["tokens"]
    return [
        *(plain(str(row[name])) for name in ("uid", "kind", "channel", "state")),
        *(calls, str(tokens["prompt"]), str(tokens["sampled"]), named(row["verdicts"])),
        *(when(row["created_at"]), when(row["last_call_at"])),
    ]
