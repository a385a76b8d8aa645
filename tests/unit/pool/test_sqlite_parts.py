"""The parts of the SQLite store: rows of records, the connection's settings, what makes two steps equal."""

from __future__ import annotations

import asyncio
import os
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.capture.call import Draft
from moorage.capture.packing import pack_floats, pack_ids
from moorage.pool.contract import NewTrajectory
from moorage.pool.sql.reading import sessions
from moorage.pool.sql.records import Packer, read_record
from moorage.pool.sql.submitting import content_digest
from moorage.pool.sqlite.place import Place
from moorage.pool.sqlite.schema import MIGRATIONS, migrate
from moorage.pool.sqlite.store import SqliteStore
from moorage.pool.sqlite.writer import SqliteDialect
from tests.contract.store_parts import draft, make, step


@pytest.fixture
def db():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, 0.0, "memory")
    yield connection
    connection.close()


def record_of(size: int) -> bytes:
    """Bytes that no compression makes smaller, as a record begins."""
    return b"\xdc" + os.urandom(size)


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 3935, 3936, 3937, 7871, 7872, 7873, 100_000, 3_000_000])
def test_records_of_all_sizes_come_back(db, size):
    packer = Packer()
    for number, record in enumerate((record_of(size), b"\xdc" + bytes(size)), start=1):
        stored, pieces = packer.record(number, record)
        db.executemany("INSERT INTO pieces VALUES (?, ?)", pieces)
        assert read_record(db, number, stored) == record
        assert all(len(data) <= 4096 for _, data in pieces) and len(stored) <= 4096


def test_a_short_record_is_kept_as_it_is_and_one_that_was_compressed_is_read(db):
    record = b"\xdc" + bytes(3000)
    assert Packer().record(1, record) == (record, [])
    stored = Packer().text(record)
    assert len(stored) < len(record)
    assert read_record(db, 1, stored) == record


def test_a_refused_row_takes_nothing_with_it_but_its_commit(tmp_path):
    """Rows before it in its statement stay until the transaction is rolled back, and it is."""
    db = Place(tmp_path / "store.db").create(0.0)
    db.execute("BEGIN IMMEDIATE")
    db.execute("SAVEPOINT one")
    with pytest.raises(sqlite3.IntegrityError):
        SqliteDialect().add_rows(db, "extras", [(1, b"a"), (2, b"b"), (1, b"c")])
    assert db.in_transaction
    db.execute("ROLLBACK TO SAVEPOINT one")
    assert db.execute("SELECT count(*) FROM extras").fetchone() == (0,)
    SqliteDialect().add_rows(db, "blobs", [(b"a", b"1"), (b"a", b"2")])
    db.execute("COMMIT")
    assert db.execute("SELECT digest, data FROM blobs").fetchall() == [(b"a", b"1")]
    db.close()


def test_a_commit_is_on_the_disk(tmp_path):
    """Full synchronisation and a write-ahead log: SQLite answers COMMIT after the log was flushed."""
    db = Place(tmp_path / "store.db").create(0.0)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("SELECT max(version) FROM moorage_migrations").fetchone() == (len(MIGRATIONS),)
    db.close()


def test_open_sessions_are_listed_without_a_look_at_all_that_ever_was(db):
    asked = []
    db.set_trace_callback(asked.append)
    assert sessions(db, "session") == []
    db.set_trace_callback(None)
    plan = [how for *_, how in db.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]
    assert "SCAN t USING INDEX trajectories_sessions" in plan


def test_only_its_owner_reads_the_file(tmp_path):
    path = tmp_path / "folder" / "store.db"
    db = Place(path).create(0.0)
    db.execute("INSERT INTO extras VALUES (1, 'x')")
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        "store.db": 0o600,
        "store.db-wal": 0o600,
        "store.db-shm": 0o600,
    }
    db.close()


steps = st.builds(
    step,
    st.just("t"),
    st.integers(0, 1),
    prompt_ids=st.lists(st.integers(0, 3), min_size=1, max_size=3).map(pack_ids),
    response_ids=st.lists(st.integers(0, 3), max_size=2).map(pack_ids),
    rollout_log_probs=st.none() | st.lists(st.floats(-1, 0), max_size=1).map(pack_floats),
    reward=st.none() | st.floats(0, 1),
    policy_version=st.integers(0, 1),
    is_last=st.booleans(),
    metadata=st.dictionaries(st.text(max_size=2), st.integers(0, 2), max_size=2),
    routed_experts=st.none() | st.just([1]),
)


@given(steps, steps)
@settings(max_examples=300)
def test_steps_are_equal_when_what_was_submitted_is(one, other):
    same = one.__class__(**{**fields(other), "step_index": one.step_index, "trajectory_uid": "t"}) == one
    assert (content_digest(one) == content_digest(other)) == same


def fields(given):
    return {name: getattr(given, name) for name in given.__struct_fields__}


def turn(number: int, prompt: int, sampled: int) -> Draft:
    """A turn whose ids and log probabilities no compression makes much smaller."""
    path = number * (prompt + sampled)
    return draft(
        "t",
        parent=number - 1 if number else None,
        keep=path,
        call_id=os.urandom(16).hex(),
        request_id=os.urandom(16).hex(),
        delta=some_ids(prompt),
        completion=some_ids(sampled),
        logprobs=os.urandom(8 * sampled),
        prompt_key=os.urandom(16),
        reply_key=os.urandom(16),
        loose_reply_key=os.urandom(16),
        retry_key=os.urandom(16),
        tools_digest=b"t" * 16,
        template_digest=b"T" * 16,
        sampling_digest=b"s" * 16,
        metadata_digest=b"m" * 16,
    )


def some_ids(many: int) -> bytes:
    return pack_ids(int.from_bytes(os.urandom(4), "big") % 200_000 for _ in range(many))


@pytest.mark.parametrize(("prompt", "sampled"), [(64, 128), (512, 128), (300, 128), (3000, 128), (100, 2000), (8, 1)])
def test_a_call_takes_no_more_than_its_tokens_and_700_bytes_on_the_disk(tmp_path, prompt, sampled):
    """The file's growth, indexes and empty space in pages included, as much at turn 400 as at turn 5."""
    path = tmp_path / "store.db"
    sizes = []

    async def scenario(turns: range) -> None:
        store = SqliteStore(path)
        await store.open()
        if not turns.start:
            await store.create(NewTrajectory(uid="t", kind="session", prompt_uid="g"))
        waiting = [store.append("t", [turn(number, prompt, sampled)], {}) for number in turns]
        await asyncio.gather(*waiting)
        await store.close()
        sizes.append(path.stat().st_size)

    for turns in (range(0, 1), range(1, 200), range(200, 400)):
        asyncio.run(scenario(turns))
    limit = 4 * prompt + 12 * sampled + 700
    assert (sizes[1] - sizes[0]) / 199 <= limit
    assert (sizes[2] - sizes[1]) / 200 <= limit


def test_submitted_prompts_are_stored_as_what_is_new(tmp_path):
    path = tmp_path / "store.db"

    async def scenario() -> int:
        store = SqliteStore(path)
        await store.open()
        ids = b""
        for index in range(60):
            ids += os.urandom(1000)
            await store.submit([step("t", index, prompt_ids=ids, response_ids=b"")], None)
        await store.close()
        return len(ids)

    whole = asyncio.run(scenario())  # in full, 60 growing prompts would take 30 times as much
    assert path.stat().st_size < 36 * 16384 + 3 * whole


def test_nobody_waits_for_an_answer_that_nobody_reads(tmp_path):
    async def scenario():
        store = SqliteStore(tmp_path / "store.db")
        await store.open()
        await make(store, "t")
        gone = [asyncio.create_task(store.append("t", [draft("t")], {})) for _ in range(20)]
        await asyncio.sleep(0)
        for task in gone[::2]:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        calls = await store.calls("t")
        assert [call.seq for call in calls] == list(range(len(calls))) and len(calls) >= 10
        await store.close()

    asyncio.run(scenario())
