"""Users, tokens, models with their revisions and events, leases, answers for idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NOT_DELETED = sa.text("state <> 'DELETED'")


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    store = op.create_table(
        "store",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(store, [{"id": 1, "version": 0, "event": 0}])
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("number", number, primary_key=True, autoincrement=False),
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("token_id", name="tokens_token_id"),
        sa.UniqueConstraint("sha256", name="tokens_sha256"),
    )
    op.create_index("tokens_of_user", "tokens", ["user_id", "number"])
    _models(number)
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "kept",
        sa.Column("user_id", sa.Text(), primary_key=True),
        sa.Column("key_sha256", sa.Text(), primary_key=True),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("kept_created_at", "kept", ["created_at"])


def _models(number: sa.types.TypeEngine[int]) -> None:
    op.create_table(
        "models",
        sa.Column("born", number, primary_key=True, autoincrement=False),
        sa.Column("model_key", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("observed_generation", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error_summary", sa.Text()),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("model_key", name="models_model_key"),
    )
    op.create_index("models_version", "models", ["version"])
    for name, columns, unique in (
        ("models_suffix", ["user_id", "suffix"], True),
        ("models_model_id", ["model_id"], True),
        ("models_of_user", ["user_id", "born"], False),
        ("models_live", ["born"], False),
    ):
        op.create_index(
            name, "models", columns, unique=unique, sqlite_where=_NOT_DELETED, postgresql_where=_NOT_DELETED
        )
    op.create_table(
        "revisions",
        sa.Column("model_key", sa.Text(), primary_key=True),
        sa.Column("generation", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("sequence", number, primary_key=True, autoincrement=False),
        sa.Column("model_key", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
    )
    op.create_index("events_of_model", "events", ["model_key", "sequence"])
