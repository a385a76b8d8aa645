"""A model knows its last event and how many it has: a pass over all of them need not look for that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("events_kept", "last_event"):
        op.add_column("models", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    of_model = "FROM events WHERE events.model_key = models.model_key"
    op.execute(
        f"UPDATE models SET events_kept = (SELECT count(*) {of_model}),"  # noqa: S608 - no value in it
        f" last_event = (SELECT coalesce(max(sequence), 0) {of_model})"
    )
