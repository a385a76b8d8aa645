"""What is asked of a store, inside a transaction."""

from __future__ import annotations

import base64
import re
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, select

from moorage.errors import ConflictError, NotFoundError, UsageError
from moorage.serving.model import Event, Model, Revision, State
from moorage.serving.store.contract import Page
from moorage.serving.store.memo import Memo
from moorage.serving.store.rows import event_of, revision_of, storable
from moorage.serving.store.schema import EVENTS, MODELS, NOT_DELETED, REVISIONS, STORE

__all__ = [
    "changed_models",
    "events_of",
    "find_model",
    "live_model",
    "live_models",
    "models_of",
    "page_of",
    "revisions_of",
    "version_now",
]

_LARGEST = 2**63 - 1
_VERSION = select(STORE.c.version).where(STORE.c.id == 1)
_MODEL = select(MODELS).where(MODELS.c.model_key == bindparam("key"))
_NAMED = select(MODELS).where(MODELS.c.user_id == bindparam("of"), MODELS.c.suffix == bindparam("name"), NOT_DELETED)
_LIVE = select(MODELS).where(NOT_DELETED).order_by(MODELS.c.born)
_LIVE_OF = select(MODELS).where(MODELS.c.user_id == bindparam("of"), NOT_DELETED).order_by(MODELS.c.born)
_VERSIONS = select(STORE.c.version, STORE.c.purged).where(STORE.c.id == 1)
_TOKEN = re.compile(r"[0-9]{1,19}")


def find_model(db: Connection, model_key: str) -> Row[Any]:
    """Raises NotFoundError."""
    found = db.execute(_MODEL, {"key": model_key}).first() if storable(model_key) else None
    if found is None:
        raise NotFoundError(f"there is no model {model_key!r}", code="model_not_found")
    return found


def live_model(db: Connection, user_id: str, suffix: str) -> Row[Any] | None:
    """That of the suffix that is not DELETED."""
    if not storable(user_id + suffix):
        return None
    return db.execute(_NAMED, {"of": user_id, "name": suffix}).first()


def live_models(db: Connection, memo: Memo) -> tuple[Model, ...]:
    return tuple(map(memo, db.execute(_LIVE)))


def models_of(db: Connection, memo: Memo, user_id: str) -> tuple[Model, ...]:
    """All of one user that are not DELETED. `user_id`: one that can be stored."""
    return tuple(map(memo, db.execute(_LIVE_OF, {"of": user_id})))


def page_of(
    db: Connection, memo: Memo, user_id: str | None, limit: int, token: str | None, state: State | None
) -> Page:
    """Raises UsageError `bad_page_token`."""
    after = 0 if token is None else _born_of(token)
    limit = min(max(limit, 1), 1 << 30)
    wanted: list[ColumnElement[bool]] = [MODELS.c.born > after]
    if user_id is not None:
        if not storable(user_id):
            return Page(items=(), next_token=None)
        wanted.append(MODELS.c.user_id == user_id)
    if state is not None:
        wanted.append(MODELS.c.state == state.value)
    # One more than asked for tells whether there is another page.
    found = db.execute(select(MODELS).where(NOT_DELETED, *wanted).order_by(MODELS.c.born).limit(limit + 1)).all()
    items = tuple(map(memo, found[:limit]))
    return Page(items=items, next_token=_token_of(found[limit - 1].born) if len(found) > limit else None)


def revisions_of(db: Connection, model_key: str) -> tuple[Revision, ...]:
    if not storable(model_key):
        return ()
    wanted = select(REVISIONS).where(REVISIONS.c.model_key == model_key).order_by(REVISIONS.c.generation)
    return tuple(map(revision_of, db.execute(wanted)))


def events_of(db: Connection, model_key: str, limit: int, after: int) -> tuple[Event, ...]:
    if not storable(model_key) or limit < 1 or after >= _LARGEST:
        return ()
    wanted = (
        select(EVENTS)
        .where(EVENTS.c.model_key == model_key, EVENTS.c.sequence > max(after, 0))
        .order_by(EVENTS.c.sequence)
        .limit(min(limit, 1 << 30))
    )
    return tuple(map(event_of, db.execute(wanted)))


def version_now(db: Connection) -> int:
    return int(db.execute(_VERSION).scalar_one())


def changed_models(db: Connection, memo: Memo, version: int, user_id: str | None) -> tuple[int, tuple[Model, ...]]:
    """A version that is not reached yet is of another history, from before a backup was put back: all changed since.

    Raises ConflictError `version_forgotten`.
    """
    now, purged = db.execute(_VERSIONS).one()
    since = version if 0 <= version <= now else 0
    if since < purged:
        raise ConflictError(
            f"of what changed after version {version} some is not kept any more",
            code="version_forgotten",
            hint="read all that is there",
        )
    wanted: list[ColumnElement[bool]] = [MODELS.c.version > since]
    if user_id is not None:
        if not storable(user_id):
            return now, ()
        wanted.append(MODELS.c.user_id == user_id)
    found = db.execute(select(MODELS).where(*wanted).order_by(MODELS.c.version, MODELS.c.born))
    return now, tuple(map(memo, found))


def _token_of(born: int) -> str:
    return base64.urlsafe_b64encode(str(born).encode()).decode().rstrip("=")


def _born_of(token: str) -> int:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        text = ""
    if _TOKEN.fullmatch(text) and int(text) <= _LARGEST and _token_of(int(text)) == token:
        return int(text)
    raise UsageError(
        "page_token: no page ended so",
        code="bad_page_token",
        hint="give next_page_token of the page before, or leave it out for the first page",
    )
