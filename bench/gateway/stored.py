"""What the gateway's store holds, read beside it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stored", "read_stored"]

TEXT_TABLES = ("extras", "blobs")
"""Texts, requested top_logprobs and messages, compressed; everything else is ids, log probabilities and bookkeeping."""


@dataclass(frozen=True, slots=True)
class Stored:
    calls: int
    record_bytes: int
    """Used by rows and indexes, pages' empty space apart."""
    text_bytes: int


def read_stored(path: Path) -> Stored:
    """As committed at this moment."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        calls = db.execute("SELECT count(*) FROM calls").fetchone()[0]
        used = dict(db.execute("SELECT name, sum(pgsize - unused) FROM dbstat GROUP BY name").fetchall())
    texts = sum(used.get(name, 0) for name in TEXT_TABLES)
    return Stored(calls, sum(used.values()) - texts, texts)
