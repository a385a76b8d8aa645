"""What a pass of the reconciler found out, inside a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from moorage.serving.model import State
from moorage.serving.store import failures
from moorage.serving.store.contract import Change
from moorage.serving.store.database import Writing
from moorage.serving.store.events import EventLog, LastEvent
from moorage.serving.store.rows import clean, conditions_text, progress_text, to_micros
from moorage.serving.store.schema import EVENTS, MODELS

__all__ = ["record"]

_GOING = (State.DELETING, State.DELETED)
_AT_ONCE = 500
_NOTED = ("state", "observed_generation", "error_summary", "conditions", "progress")
_ROWS = select(
    MODELS.c.model_key,
    MODELS.c.generation,
    *(MODELS.c[name] for name in _NOTED),
    MODELS.c.events_kept,
    MODELS.c.last_event,
    EVENTS.c.event_type,
    EVENTS.c.payload,
    EVENTS.c["count"].label("times"),
).select_from(MODELS.outerjoin(EVENTS, EVENTS.c.sequence == MODELS.c.last_event))
_UPDATE = (
    update(MODELS)
    .where(MODELS.c.model_key == bindparam("of"))
    .values(
        {name: bindparam(f"new_{name}") for name in (*_NOTED, "updated_at", "version", "events_kept", "last_event")}
    )
)


def record(writing: Writing, changes: Sequence[Change], now: datetime) -> int:
    """How many were not dropped. What says nothing new is not written, and no watcher hears of it."""
    at = to_micros(now)
    kept = 0
    # A model may be in it twice: then its second change goes by what the first one made of it.
    for some in _without_repeats(changes):
        rows = {row.model_key: row for row in _rows(writing, some)}
        kept += _record(writing, some, rows, at)
    return kept


def _record(writing: Writing, changes: Sequence[Change], rows: Mapping[str, Row[Any]], at: int) -> int:
    events = EventLog(writing, at)
    updates = []
    fitting = []
    for change in changes:
        row = rows.get(change.model_key)
        if row is None or not _fits(change, row):
            continue
        fitting.append(change)
        noted = _noted(change)
        if not change.events and all(noted[name] == getattr(row, name) for name in _NOTED):
            continue
        last = LastEvent(row.events_kept, row.last_event, row.event_type or "", row.payload or "", row.times or 0)
        for event_type, payload in change.events:
            last = events.add(change.model_key, last, event_type, payload)
        noted |= {"updated_at": at, "version": writing.version, "events_kept": last.kept, "last_event": last.sequence}
        updates.append({"of": change.model_key, **{f"new_{name}": value for name, value in noted.items()}})
    if updates:
        writing.db.execute(_UPDATE, updates)
        writing.changed = True
    events.flush()
    failures.keep(writing, {one.model_key: one.failure_log for one in fitting if one.failure_log is not None})
    failures.forget(writing, [one.model_key for one in fitting if one.state is State.DELETED])
    return len(fitting)


def _fits(change: Change, row: Row[Any]) -> bool:
    """Whether it still speaks of the model as it is."""
    if row.generation != change.generation or row.state == State.DELETED:
        return False
    return row.state != State.DELETING or (change.was in _GOING and change.state in _GOING)


def _noted(change: Change) -> dict[str, Any]:
    return {
        "state": change.state.value,
        "observed_generation": change.observed_generation,
        "error_summary": None if change.error_summary is None else clean(change.error_summary),
        "conditions": conditions_text(change.conditions),
        "progress": progress_text(change.progress),
    }


def _rows(writing: Writing, changes: Sequence[Change]) -> Sequence[Row[Any]]:
    return writing.db.execute(_ROWS.where(MODELS.c.model_key.in_([one.model_key for one in changes]))).all()


def _without_repeats(changes: Sequence[Change]) -> list[list[Change]]:
    """In order, in parts that name each model once."""
    parts: list[list[Change]] = [[]]
    named: set[str] = set()
    for change in changes:
        if change.model_key in named or len(parts[-1]) == _AT_ONCE:
            parts.append([])
            named = set()
        parts[-1].append(change)
        named.add(change.model_key)
    return parts if parts[0] else []
