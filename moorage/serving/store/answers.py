"""Answers that are given again for the same `Idempotency-Key`, inside the transaction that made them."""

from __future__ import annotations

import hmac
import json
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from moorage.errors import UsageError
from moorage.serving.store.contract import Kept
from moorage.serving.store.database import Writing
from moorage.serving.store.ids import sha256_of
from moorage.serving.store.rows import dump
from moorage.serving.store.schema import KEPT

__all__ = ["KEPT_S", "keep", "kept_answer"]

KEPT_S = 24 * 3600
"""How long a key is remembered."""


def kept_answer(db: Connection, user_id: str, kept: Kept, at: int) -> dict[str, Any] | None:
    """None: the key is a new one. `at`: the time now, in microseconds. Raises UsageError `idempotency_key_reused`."""
    found = db.execute(
        select(KEPT.c.body_sha256, KEPT.c.answer).where(
            KEPT.c.user_id == user_id,
            KEPT.c.key_sha256 == sha256_of(kept.key),
            KEPT.c.created_at > at - KEPT_S * 1_000_000,
        )
    ).first()
    if found is None:
        return None
    if not hmac.compare_digest(found.body_sha256, kept.body_sha256):
        raise UsageError(
            "this Idempotency-Key was used for another request",
            code="idempotency_key_reused",
            hint="take a new key for every request that is not a repetition",
        )
    answer: dict[str, Any] = json.loads(found.answer)
    return answer


def keep(writing: Writing, user_id: str, kept: Kept, answer: dict[str, Any], at: int) -> None:
    """In the place of one that is over."""
    key_sha256 = sha256_of(kept.key)
    writing.db.execute(delete(KEPT).where(KEPT.c.user_id == user_id, KEPT.c.key_sha256 == key_sha256))
    writing.db.execute(
        insert(KEPT).values(
            user_id=user_id,
            key_sha256=key_sha256,
            body_sha256=kept.body_sha256,
            answer=dump(answer),
            created_at=at,
        )
    )
