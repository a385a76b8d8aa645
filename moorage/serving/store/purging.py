"""Letting go of what nobody asks for any more, inside a transaction: a bounded part of it at a time."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select, tuple_, update

from moorage.serving.store.answers import KEPT_S
from moorage.serving.store.contract import Purged
from moorage.serving.store.database import Writing
from moorage.serving.store.schema import DELETED, EVENTS, FAILURES, KEPT, MODELS, REVISIONS, STORE

__all__ = ["MOST_ANSWERS", "MOST_MODELS", "MOST_ROWS", "purge"]

MOST_MODELS = 100
MOST_ROWS = 5000
"""Of models with their events and revisions, in one transaction: others wait for it. One model may have all of it."""
MOST_ANSWERS = 1000

_SECOND = 1_000_000
_OLD = (
    select(MODELS.c.model_key, MODELS.c.version, MODELS.c.events_kept, MODELS.c.generation)
    .where(DELETED, MODELS.c.updated_at <= bindparam("until"))
    .order_by(MODELS.c.updated_at)
    .limit(MOST_MODELS)
)


def purge(writing: Writing, at: int, keep_deleted_s: float | None) -> Purged:
    """`at`: the time now, in microseconds."""
    models, are_all = (0, True) if keep_deleted_s is None else _models(writing, at - round(keep_deleted_s * _SECOND))
    answers = _answers(writing, at - KEPT_S * _SECOND)
    return Purged(models=models, answers=answers, has_more=not are_all or answers == MOST_ANSWERS)


def _models(writing: Writing, until: int) -> tuple[int, bool]:
    """How many went, and whether those were all that may go."""
    if until <= 0:  # kept for longer than there is time to count
        return 0, True
    db = writing.db
    found = db.execute(_OLD, {"until": until}).all()
    keys: list[str] = []
    newest = rows = 0
    for model in found:
        rows += 1 + model.events_kept + model.generation
        if keys and rows > MOST_ROWS:
            break
        keys.append(model.model_key)
        newest = max(newest, model.version)
    if not keys:
        return 0, True
    for table in (EVENTS, REVISIONS, FAILURES):
        db.execute(delete(table).where(table.c.model_key.in_(keys)))
    db.execute(delete(MODELS).where(MODELS.c.model_key.in_(keys), DELETED))
    # Whoever has not heard yet that they were deleted will never be told by a change.
    db.execute(update(STORE).where(STORE.c.id == 1, STORE.c.purged < newest).values(purged=newest))
    return len(keys), len(keys) == len(found) < MOST_MODELS


def _answers(writing: Writing, until: int) -> int:
    key = tuple_(KEPT.c.user_id, KEPT.c.key_sha256)
    old = select(KEPT.c.user_id, KEPT.c.key_sha256).where(KEPT.c.created_at <= until)
    return writing.db.execute(delete(KEPT).where(key.in_(old.limit(MOST_ANSWERS)))).rowcount
