"""Retention, counts and marks on PostgreSQL: the same contract and model as on SQLite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

pytest.importorskip("psycopg")
pytest.register_assert_rewrite(
    "tests.contract.store_machine", "tests.contract.store_pool_machine", "tests.contract.store_retention"
)

from moorage.pool.postgres.store import PostgresStore  # noqa: E402
from tests.contract.store_machine import MAX_ATTEMPTS  # noqa: E402
from tests.contract.store_pool_machine import PoolMachine  # noqa: E402
from tests.contract.store_retention import MarkContract, RetentionContract  # noqa: E402

pytestmark = pytest.mark.postgres


class TestPostgresPool(RetentionContract, MarkContract):
    @pytest.fixture(autouse=True)
    def url(self, postgres):
        self.url = postgres.url(postgres.new_schema())

    def new_store(self, folder, clock, make_id, **options):
        return PostgresStore(self.url, clock=clock, make_id=make_id, **options)


class PostgresPoolMachine(PoolMachine):
    server = None
    """Set by the fixture: hypothesis makes the machine itself."""

    def new_store(self, folder, clock, make_id):
        if not hasattr(self, "url"):
            self.url = self.server.url(self.server.new_schema())
        return PostgresStore(self.url, clock=clock, make_id=make_id, max_attempts=MAX_ATTEMPTS)


class TestPoolAgainstTheModel(PostgresPoolMachine.TestCase):
    settings = settings(
        max_examples=int(os.environ.get("MOORAGE_STORE_EXAMPLES", "8")), stateful_step_count=30, deadline=None
    )

    @pytest.fixture(autouse=True)
    def server(self, postgres):
        PostgresPoolMachine.server = postgres
