"""What builds that failed wrote last, one build a model, inside a transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, insert, select

from moorage.serving.model import FailureLog
from moorage.serving.store.database import Writing
from moorage.serving.store.rows import dump, from_micros, storable, to_micros
from moorage.serving.store.schema import FAILURES

__all__ = ["failure_log", "forget", "keep"]


def failure_log(db: Connection, model_key: str) -> FailureLog | None:
    """None: nothing is kept of that model."""
    if not storable(model_key):
        return None
    found = db.execute(select(FAILURES).where(FAILURES.c.model_key == model_key)).first()
    if found is None:
        return None
    return FailureLog(app=found.app, failed_at=from_micros(found.failed_at), lines=tuple(json.loads(found.lines)))


def keep(writing: Writing, logs: Mapping[str, FailureLog]) -> None:
    """Of each model by its key; those before are gone then."""
    forget(writing, logs)
    rows = [
        {"model_key": key, "app": one.app, "failed_at": to_micros(one.failed_at), "lines": dump(one.lines)}
        for key, one in logs.items()
    ]
    if rows:
        writing.db.execute(insert(FAILURES), rows)


def forget(writing: Writing, model_keys: Iterable[str]) -> None:
    """Nothing is kept of these any more."""
    keys = list(model_keys)
    if keys:
        writing.db.execute(delete(FAILURES).where(FAILURES.c.model_key.in_(keys)))
