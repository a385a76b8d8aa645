"""Whatever users and reconcilers do in whatever order, the control plane's store does as its rules say."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

pytest.importorskip("sqlalchemy")

from moorage.serving.store.opening import open_store
from moorage.serving.store.schema import METADATA, STORE
from tests.contract.serving_store_machine import StoreMachine


def run(fresh, examples: int) -> None:
    machine = type("Machine", (StoreMachine,), {"fresh": staticmethod(fresh)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_sqlite():
    # In memory where that can be had: thousands of commits are synced.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        empty = Path(folder) / "empty.db"
        open_store(f"sqlite:///{empty}").close()
        numbers = itertools.count()

        def fresh() -> str:
            path = empty.with_name(f"{next(numbers)}.db")
            shutil.copy(empty, path)
            return f"sqlite:///{path}"

        run(fresh, 20)


@pytest.mark.postgres
def test_postgres(postgres):
    pytest.importorskip("psycopg")
    schema = postgres.new_schema()
    url = postgres.url(schema)
    open_store(url).close()
    emptied = "; ".join(f"DELETE FROM {schema}.{table.name}" for table in METADATA.sorted_tables if table is not STORE)

    def fresh() -> str:
        postgres.sql(f"{emptied}; UPDATE {schema}.store SET version = 0, event = 0, purged = 0")
        return url

    run(fresh, 4)
