"""SQLite keeps what every store promises, and what a file of its own needs."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from moorage.pool.sqlite.store import SqliteStore

pytest.register_assert_rewrite(
    "tests.contract.store_contract",
    "tests.contract.store_leases",
    "tests.contract.store_machine",
    "tests.contract.store_shared",
)

from tests.contract.store_contract import StoreContract  # noqa: E402
from tests.contract.store_leases import LeaseContract, ViewContract  # noqa: E402
from tests.contract.store_machine import MAX_ATTEMPTS, LeaseMachine  # noqa: E402
from tests.contract.store_shared import SharedContract  # noqa: E402


class TestSqliteStore(StoreContract, LeaseContract, ViewContract, SharedContract):
    def new_store(self, folder, clock, make_id, **options):
        return SqliteStore(folder / "store.db", clock=clock, make_id=make_id, **options)


class SqliteMachine(LeaseMachine):
    def new_store(self, folder, clock, make_id):
        return SqliteStore(folder / "store.db", clock=clock, make_id=make_id, max_attempts=MAX_ATTEMPTS)


TestLeasesAgainstTheModel = SqliteMachine.TestCase
TestLeasesAgainstTheModel.settings = settings(
    max_examples=int(os.environ.get("MOORAGE_STORE_EXAMPLES", "40")), stateful_step_count=40, deadline=None
)
