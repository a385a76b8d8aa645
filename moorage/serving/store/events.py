"""What happened to models: added, counted on, and at most so many of each kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from moorage.serving.store.database import Writing
from moorage.serving.store.rows import clean, dump
from moorage.serving.store.schema import EVENTS

__all__ = ["MOST_EVENTS", "EventLog", "LastEvent"]

MOST_EVENTS = 1000
"""Of one model; then the oldest go. Its very first stays."""

_COUNT_ON = (
    update(EVENTS)
    .where(EVENTS.c.sequence == bindparam("of"))
    .values({"count": bindparam("times"), "last_at": bindparam("at")})
)


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The newest event of a model, and how many of its events are kept. 0 and 0: it has none."""

    kept: int
    sequence: int
    event_type: str = ""
    payload: str = ""
    count: int = 0


class EventLog:
    """The events of one transaction: `add` notes them down, `flush` writes them."""

    def __init__(self, writing: Writing, at: int) -> None:
        """`at`: the time of all of them, in microseconds."""
        self._writing = writing
        self._at = at
        self._new: dict[int, dict[str, Any]] = {}
        self._counted: dict[int, int] = {}
        self._full: dict[str, int] = {}

    def add(self, model_key: str, last: LastEvent, event_type: str, payload: dict[str, Any]) -> LastEvent:
        """One that is as the last one is counted on; what is the last one now."""
        event_type, text = clean(event_type), dump(payload)
        if last.sequence and (last.event_type, last.payload) == (event_type, text):
            count = last.count + 1
            if last.sequence in self._new:
                self._new[last.sequence]["count"] = count
            else:
                self._counted[last.sequence] = count
            return LastEvent(last.kept, last.sequence, event_type, text, count)
        sequence = self._writing.next_event()
        self._new[sequence] = {
            "sequence": sequence,
            "model_key": model_key,
            "event_type": event_type,
            "created_at": self._at,
            "last_at": self._at,
            "count": 1,
            "payload": text,
        }
        kept = last.kept + 1
        if kept > MOST_EVENTS:
            self._full[model_key] = self._full.get(model_key, 0) + 1
            kept = MOST_EVENTS
        return LastEvent(kept, sequence, event_type, text, 1)

    def flush(self) -> None:
        db = self._writing.db
        if self._new:
            db.execute(insert(EVENTS), list(self._new.values()))
        if self._counted:
            db.execute(_COUNT_ON, [{"of": of, "times": count, "at": self._at} for of, count in self._counted.items()])
        for model_key, surplus in self._full.items():
            oldest = (
                select(EVENTS.c.sequence)
                .where(EVENTS.c.model_key == model_key)
                .order_by(EVENTS.c.sequence)
                .offset(1)
                .limit(surplus)
            )
            db.execute(delete(EVENTS).where(EVENTS.c.sequence.in_(oldest.scalar_subquery())))
        self._new, self._counted, self._full = {}, {}, {}
