"""What all gateways over one store share: their state, and the keys that were given out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.pool.contract import Key
from moorage.pool.faults import key_taken, unknown_key
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.transaction import Transaction

__all__ = ["add_key", "keys", "revoke_key", "set_state", "state"]

_KEY = "key_id, role, digest, note, created_at, expires_at, revoked_at"


def state(db: Connection) -> dict[str, Any]:
    rows = db.execute("SELECT name, value FROM state ORDER BY name").fetchall()
    return {name: msgspec.json.decode(value) for name, value in rows}


def set_state(transaction: Transaction, changes: Mapping[str, Any]) -> dict[str, Any]:
    """All there are now."""
    for name, value in changes.items():
        if value is None:
            transaction.execute("DELETE FROM state WHERE name = ?", (name,))
            continue
        transaction.execute(
            "INSERT INTO state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, msgspec.json.encode(value)),
        )
    transaction.touched.add("")
    return state(transaction.db)


def keys(db: Connection) -> list[Key]:
    """Oldest first."""
    return [_key(row) for row in db.execute(f"SELECT {_KEY} FROM keys ORDER BY id").fetchall()]  # noqa: S608


def add_key(transaction: Transaction, key: Key) -> None:
    """Raises ConflictError."""
    known = transaction.execute("SELECT 1 FROM keys WHERE key_id = ? OR digest = ?", (key.key_id, key.digest))
    if known.fetchone() is not None:
        raise key_taken(key.key_id)
    transaction.execute(
        f"INSERT INTO keys ({_KEY}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (key.key_id, key.role, key.digest, key.note, key.created_at, key.expires_at, key.revoked_at),
    )
    transaction.touched.add("")


def revoke_key(transaction: Transaction, key_id: str, at: float) -> Key:
    """Raises NotFoundError."""
    transaction.execute("UPDATE keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL", (at, key_id))
    row = transaction.execute(f"SELECT {_KEY} FROM keys WHERE key_id = ?", (key_id,)).fetchone()  # noqa: S608
    if row is None:
        raise unknown_key(key_id)
    transaction.touched.add("")
    return _key(row)


def _key(row: tuple[Any, ...]) -> Key:
    key_id, role, digest, note, created_at, expires_at, revoked_at = row
    return Key(
        key_id=key_id,
        role=role,
        digest=digest,
        note=note,
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )
