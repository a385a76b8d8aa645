"""Users and their tokens, inside a transaction. Of a token only the digest is stored."""

from __future__ import annotations

import hmac

from sqlalchemy import Connection, bindparam, delete, insert, select

from moorage.errors import ConflictError, NotFoundError
from moorage.serving.store.contract import Token, TokenDigest, User
from moorage.serving.store.database import Writing
from moorage.serving.store.ids import Ids, new_secret, new_token_id, sha256_of
from moorage.serving.store.rows import clean, from_micros, storable
from moorage.serving.store.schema import TOKENS, USERS

__all__ = ["create_token", "create_user", "digests", "find_user", "list_users", "owner_of", "revoke", "tokens_of"]

_OWNER = select(TOKENS.c.user_id, TOKENS.c.sha256).where(TOKENS.c.sha256 == bindparam("sha256"))
_USER = select(USERS.c.user_id).where(USERS.c.user_id == bindparam("of"))


def create_user(writing: Writing, user_id: str, at: int) -> None:
    if find_user(writing.db, user_id):
        raise ConflictError(f"there is a user {user_id!r} already", code="user_exists", hint="take another user_id")
    writing.db.execute(insert(USERS).values(user_id=user_id, created_at=at))
    writing.changed = True


def find_user(db: Connection, user_id: str) -> bool:
    return storable(user_id) and db.execute(_USER, {"of": user_id}).first() is not None


def list_users(db: Connection, limit: int, after: str) -> tuple[User, ...]:
    if limit < 1:
        return ()
    wanted = select(USERS).order_by(USERS.c.user_id).limit(min(limit, 1 << 30))
    found = db.execute(wanted.where(USERS.c.user_id > clean(after)))
    return tuple(User(user_id=user_id, created_at=from_micros(at)) for user_id, at in found)


def create_token(writing: Writing, ids: Ids, user_id: str, at: int) -> tuple[Token, str]:
    """The token and its secret."""
    _demand_user(writing.db, user_id)
    secret, token_id = new_secret(ids), new_token_id(ids)
    writing.db.execute(
        insert(TOKENS).values(
            number=writing.version, token_id=token_id, user_id=user_id, sha256=sha256_of(secret), created_at=at
        )
    )
    writing.changed = True
    return Token(token_id=token_id, created_at=from_micros(at)), secret


def tokens_of(db: Connection, user_id: str) -> tuple[Token, ...]:
    """Oldest first."""
    _demand_user(db, user_id)
    found = db.execute(
        select(TOKENS.c.token_id, TOKENS.c.created_at).where(TOKENS.c.user_id == user_id).order_by(TOKENS.c.number)
    )
    return tuple(Token(token_id=token_id, created_at=from_micros(at)) for token_id, at in found)


def revoke(writing: Writing, user_id: str, token_id: str) -> None:
    _demand_user(writing.db, user_id)
    gone = (
        storable(token_id)
        and writing.db.execute(
            delete(TOKENS).where(TOKENS.c.user_id == user_id, TOKENS.c.token_id == token_id)
        ).rowcount
    )
    if not gone:
        raise NotFoundError(f"{user_id!r} has no token {token_id!r}", code="token_not_found")
    writing.changed = True


def owner_of(db: Connection, secret: str) -> str | None:
    """None: nobody's. How long it takes tells nothing of other tokens: what is looked for is a digest."""
    sha256 = sha256_of(secret)
    found = db.execute(_OWNER, {"sha256": sha256}).first()
    if found is None or not hmac.compare_digest(found.sha256, sha256):
        return None
    return str(found.user_id)


def digests(db: Connection) -> tuple[TokenDigest, ...]:
    found = db.execute(select(TOKENS.c.sha256, TOKENS.c.user_id).order_by(TOKENS.c.number))
    return tuple(TokenDigest(sha256=sha256, user_id=user_id) for sha256, user_id in found)


def _demand_user(db: Connection, user_id: str) -> None:
    if not find_user(db, user_id):
        raise NotFoundError(f"there is no user {user_id!r}", code="user_not_found", hint="create the user first")
