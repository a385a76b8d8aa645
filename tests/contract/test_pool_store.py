"""Retention, counts and marks of SQLite: the contract, the model, and what a file of its own needs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import settings

from moorage.pool.contract import NewTrajectory
from moorage.pool.sqlite.store import SqliteStore

pytest.register_assert_rewrite(
    "tests.contract.store_machine", "tests.contract.store_pool_machine", "tests.contract.store_retention"
)

from tests.contract.store_machine import MAX_ATTEMPTS  # noqa: E402
from tests.contract.store_parts import Clock, draft, finished, lease_all, make  # noqa: E402
from tests.contract.store_pool_machine import PoolMachine  # noqa: E402
from tests.contract.store_retention import MarkContract, RetentionContract  # noqa: E402


class TestSqlitePool(RetentionContract, MarkContract):
    def new_store(self, folder, clock, make_id, **options):
        return SqliteStore(folder / "store.db", clock=clock, make_id=make_id, **options)


class SqlitePoolMachine(PoolMachine):
    def new_store(self, folder, clock, make_id):
        return SqliteStore(folder / "store.db", clock=clock, make_id=make_id, max_attempts=MAX_ATTEMPTS)


TestPoolAgainstTheModel = SqlitePoolMachine.TestCase
TestPoolAgainstTheModel.settings = settings(
    max_examples=int(os.environ.get("MOORAGE_STORE_EXAMPLES", "30")), stateful_step_count=40, deadline=None
)


UNDO = """
    DROP TABLE tallies; DROP TABLE progress; DROP TABLE leavings; DROP TABLE uses; DROP TABLE loose;
    DROP INDEX leases_round; DROP INDEX events_trajectory; DROP INDEX events_lease; DROP INDEX rounds_delayed;
    ALTER TABLE groups DROP COLUMN running; ALTER TABLE store DROP COLUMN tag;
    DROP INDEX trajectories_sessions;
    DELETE FROM moorage_migrations WHERE name IN ('tallies and retention', 'open sessions')
"""


def test_a_file_of_before_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    async def filled() -> dict[str, object]:
        store = SqliteStore(tmp_path / "store.db", clock=Clock())
        await store.open()
        for number in range(12):
            await finished(store, f"t{number}", f"p{number // 2}")
        await make(store, "open", "other", prompt_uid="p0", channel="val")
        await store.append("open", [draft("open"), draft("open", delivered=False)], {})
        await store.create(NewTrajectory(uid="gone", kind="session"))
        await store.delete("gone")
        leases = await lease_all(store, max_groups=4)
        await store.ack([leases[0].lease_id])
        await store.nack([leases[1].lease_id], delay_s=0, drop=True, reason=None)
        await store.nack([leases[2].lease_id], delay_s=100, drop=False, reason=None)
        await store.append("t0", [draft("t0")], {})
        return await closing(store)

    async def closing(store: SqliteStore) -> dict[str, object]:
        try:
            return {str(n): await store.stats(None, n) for n in (1, 2, 3)}
        finally:
            await store.close()

    before = asyncio.run(filled())
    with sqlite3.connect(tmp_path / "store.db") as db:
        for statement in UNDO.split(";"):
            db.execute(statement)
    db.close()

    async def opened() -> dict[str, object]:
        store = SqliteStore(tmp_path / "store.db", clock=Clock())
        await store.open()
        return await closing(store)

    assert asyncio.run(opened()) == before
