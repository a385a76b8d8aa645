"""The tables, as the newest migration leaves them. Times are microseconds since 1970, in UTC; what is JSON is text."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, UniqueConstraint, text

__all__ = [
    "DELETED",
    "EVENTS",
    "FAILURES",
    "HEAD",
    "KEPT",
    "LEASES",
    "METADATA",
    "MODELS",
    "NOT_DELETED",
    "REVISIONS",
    "STORE",
    "TOKENS",
    "USERS",
    "VERSION_TABLE",
]

HEAD = "0004"
"""The newest migration."""
VERSION_TABLE = "serving_schema"
"""Where the database says which migration it has."""

NOT_DELETED = text("state <> 'DELETED'")
DELETED = text("state = 'DELETED'")
"""The conditions of the partial indexes: only a query that says the same words uses them."""

METADATA = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")  # there only INTEGER is the row's own number
_Name = Text().with_variant(Text(collation="C"), "postgresql")  # in the order of its code points, as in SQLite

STORE = Table(
    "store",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("event", BigInteger, nullable=False),
    Column("purged", BigInteger, nullable=False, server_default="0"),
)
"""One row: the version that all can see, and the last event's number. Who writes anything locks it first, so what is
written becomes visible in the order of its numbers. `purged`: some that changed up to this version are not kept any
more."""

USERS = Table(
    "users",
    METADATA,
    Column("user_id", _Name, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("token_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("token_id", name="tokens_token_id"),
    UniqueConstraint("sha256", name="tokens_sha256"),
    Index("tokens_of_user", "user_id", "number"),
)

MODELS = Table(
    "models",
    METADATA,
    Column("born", _Number, primary_key=True, autoincrement=False),
    Column("model_key", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("observed_generation", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("error_summary", Text),
    Column("conditions", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("events_kept", BigInteger, nullable=False, server_default="0"),
    Column("last_event", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("model_key", name="models_model_key"),
    Index("models_suffix", "user_id", "suffix", unique=True, sqlite_where=NOT_DELETED, postgresql_where=NOT_DELETED),
    Index("models_model_id", "model_id", unique=True, sqlite_where=NOT_DELETED, postgresql_where=NOT_DELETED),
    Index("models_of_user", "user_id", "born", sqlite_where=NOT_DELETED, postgresql_where=NOT_DELETED),
    Index("models_live", "born", sqlite_where=NOT_DELETED, postgresql_where=NOT_DELETED),
    Index("models_deleted", "updated_at", sqlite_where=DELETED, postgresql_where=DELETED),
    Index("models_version", "version"),
)
"""`born`: the store's version that made it. `version`: the one that last changed it."""

REVISIONS = Table(
    "revisions",
    METADATA,
    Column("model_key", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("spec", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("sequence", _Number, primary_key=True, autoincrement=False),
    Column("model_key", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Index("events_of_model", "model_key", "sequence"),
)

FAILURES = Table(
    "failures",
    METADATA,
    Column("model_key", Text, primary_key=True),
    Column("app", Text, nullable=False),
    Column("failed_at", BigInteger, nullable=False),
    Column("lines", Text, nullable=False),
)
"""The last lines of the build of each model that failed last; gone when the model is DELETED."""

LEASES = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
)
"""`until` in microseconds too. `holder` is empty when it was given back."""

KEPT = Table(
    "kept",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("key_sha256", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("kept_created_at", "created_at"),
)
"""Answers for idempotency keys. Of a key only the digest: it may be of any length and hold anything."""
