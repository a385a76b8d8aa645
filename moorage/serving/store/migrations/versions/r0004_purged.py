"""Models that are DELETED are let go of some day: they are found by when that was, and it is known what was let go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_DELETED = sa.text("state = 'DELETED'")


def upgrade() -> None:
    op.add_column("store", sa.Column("purged", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("models_deleted", "models", ["updated_at"], sqlite_where=_DELETED, postgresql_where=_DELETED)
