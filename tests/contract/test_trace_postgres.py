"""`moor trace` over PostgreSQL: the same record, the same answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Moor
from tests.contract.gateway_process import running_gateway
from tests.contract.trace_process import replaying
from tests.contract.trace_runs import NANO, play, scripted_engine
from tests.real.parts.postgres import Postgres

pytestmark = pytest.mark.postgres


def test_a_run_is_verified_shown_replayed_and_exported(tmp_path: Path, moor: Moor, postgres: Postgres) -> None:
    schema = postgres.new_schema()
    url = postgres.url(schema)
    with running_gateway(tmp_path, "--db", url, "--tokenizer-path", str(NANO), replies=scripted_engine()) as gateway:
        uid = gateway.post("/sessions/create", {"mode": "passthrough"}).json()["uuid"]
        given = play(f"{gateway.url}/{uid}/v1")
        during = moor("trace", "verify", "--all", "--db", url, "--json")
        assert (during.rc, during.out["data"]["calls"]) == (0, 10)
        assert gateway.stop() == 0
    [row] = moor("trace", "list", "--db", url, "--json").out["data"]["traces"]
    assert (row["uid"], row["calls"]) == (uid, 10)
    assert len(moor("trace", "show", uid, "--db", url, "--json").out["data"]["calls"]) == 10
    done = moor("trace", "export", "--all", "--format", "parquet", "--output", tmp_path / "a", "--db", url, "--json")
    assert done.out["data"]["rows"] == 10
    with replaying(url, uid) as replay:
        assert play(f"{replay.url}/{uid}/v1") == given
    for column, field in (("record", "record"), ("hash", "hash")):
        postgres.sql(f"UPDATE {schema}.calls SET {column} = {flipped(column)} WHERE seq = 4")
        found = moor("trace", "verify", "--all", "--db", url, "--json")
        assert found.rc == 8, found
        faults = [(fault["call"], fault["field"]) for fault in found.out["data"]["faults"]]
        assert (4, field) in faults
        postgres.sql(f"UPDATE {schema}.calls SET {column} = {flipped(column)} WHERE seq = 4")
    assert moor("trace", "verify", "--all", "--db", url, "--json").rc == 0


def flipped(column: str) -> str:
    """Its byte 20 with one bit turned over."""
    return f"set_byte({column}, 20, get_byte({column}, 20) # 16)"


def test_a_schema_without_a_store_is_not_made(moor: Moor, postgres: Postgres) -> None:
    url = postgres.url(postgres.new_schema())
    answer = moor("trace", "list", "--db", url, "--json")
    assert (answer.rc, answer.out["error"]["code"]) == (3, "store_missing")
    assert moor("trace", "list", "--db", url, "--json").rc == 3
