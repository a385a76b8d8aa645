"""The control plane's store in PostgreSQL keeps the contract."""

from __future__ import annotations

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")

from moorage.serving.store.opening import open_store
from moorage.serving.store.schema import METADATA, STORE
from tests.contract.serving_store_acting import (
    CrowdContract,
    LeaseContract,
    ListContract,
    RecordContract,
    WatchContract,
)
from tests.contract.serving_store_contract import AccountContract, DeclaringContract, IdempotencyContract
from tests.contract.serving_store_keeping import PurgeContract, QuotaContract

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def schema(postgres):
    schema = postgres.new_schema()
    open_store(postgres.url(schema)).close()
    return schema


@pytest.fixture
def url(postgres, schema):
    """One schema for all tests, that each finds empty: making one takes longer than most of them."""
    tables = [table.name for table in METADATA.sorted_tables if table is not STORE]
    emptied = "; ".join(f"DELETE FROM {schema}.{name}" for name in tables)
    postgres.sql(f"{emptied}; UPDATE {schema}.store SET version = 0, event = 0, purged = 0")
    return postgres.url(schema)


class TestAccounts(AccountContract):
    pass


class TestDeclaring(DeclaringContract):
    pass


class TestIdempotency(IdempotencyContract):
    pass


class TestLease(LeaseContract):
    pass


class TestRecord(RecordContract):
    pass


class TestLists(ListContract):
    pass


class TestWatch(WatchContract):
    pass


class TestPurge(PurgeContract):
    pass


class TestQuota(QuotaContract):
    pass


class TestCrowd(CrowdContract):
    pass
