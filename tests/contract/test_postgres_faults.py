"""A database that cannot take a write says so, keeps nothing of it, and goes on when the cause is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("psycopg")

from moorage.capture.chain import verify_chain
from moorage.errors import MoorageError
from moorage.pool.faults import StoreFault
from moorage.pool.postgres.schema import MIGRATIONS
from tests.contract.store_opening import opened, opening
from tests.contract.store_parts import ask, draft, finished, lease_all, make, refused, step
from tests.contract.store_wire import wire_to
from tests.real.parts.postgres import postgres_server

pytestmark = pytest.mark.postgres
LAST_WORDS = b"INSERT INTO calls"
"""They go out together with COMMIT, as text the first time on each connection."""


@pytest.fixture
def schema(postgres):
    return postgres.new_schema()


async def until(store, work):
    """Ask again until it is answered; the codes of the refusals."""
    codes = set()
    async with asyncio.timeout(60):
        while True:
            try:
                return await work(), codes
            except StoreFault as fault:
                codes.add(fault.code)
                await asyncio.sleep(0.02)


async def agrees(store, uid: str, answered: int) -> None:
    calls = await store.calls(uid)
    assert [call.seq for call in calls] == list(range(answered))
    assert verify_chain(await store.records(uid)) is None


def test_a_server_that_was_restarted_is_not_noticed(postgres, schema):
    """Idle connections were cut off; the next write and the next read open others."""

    async def scenario():
        async with opened(postgres.url(schema)) as store:
            await make(store, "t")
            for seq in range(3):
                assert (await store.append("t", [draft("t")], {})).calls[0].seq == seq
                postgres.stop()
                postgres.start()
                assert len(await store.calls("t")) == seq + 1
            await agrees(store, "t", 3)

    asyncio.run(scenario())


def test_a_server_that_is_away_is_a_fault_until_it_is_back(postgres, schema):
    async def scenario():
        async with opened(postgres.url(schema)) as store:
            await make(store, "t")
            await finished(store, "u", "g")
            await store.append("t", [draft("t")], {})
            postgres.kill()
            for work in (
                store.append("t", [draft("t")], {}),
                store.submit([step("n")], None),
                store.lease(ask()),
                store.find("t"),
                store.stamp("t"),
                store.set_state({"a": 1}),
            ):
                assert await refused(work) == "store_unavailable"
            postgres.start()
            assert (await store.append("t", [draft("t")], {})).calls[0].seq == 1
            assert len(await lease_all(store)) == 1
            assert await store.find("n") is None and await store.state() == {}
            await agrees(store, "t", 2)

    try:
        asyncio.run(scenario())
    finally:
        if not postgres.answers():
            postgres.start()


@pytest.mark.parametrize("delivers", [True, False], ids=["the server hears it", "the server does not"])
def test_a_commit_that_is_cut_off_is_settled_before_it_is_answered(postgres, schema, delivers):
    async def scenario():
        with wire_to(postgres.port) as wire:
            async with opened(postgres.url(schema, ports=[wire.port], more="&sslmode=disable")) as store:
                await make(store, "t")
                wire.cut_all()
                await asyncio.sleep(0.05)
                wire.delivers, wire.cut_at = delivers, LAST_WORDS
                outcome = await refused(store.append("t", [draft("t")], {}))
                assert wire.cuts == 1
                assert outcome == ("nothing" if delivers else "store_unavailable")
                await agrees(store, "t", 1 if delivers else 0)
                assert (await store.append("t", [draft("t")], {})).calls[0].seq == (1 if delivers else 0)

    asyncio.run(scenario())


def test_while_a_commit_is_in_doubt_others_are_refused_and_it_waits(postgres, schema):
    async def scenario():
        with wire_to(postgres.port) as wire:
            async with opened(postgres.url(schema, ports=[wire.port], more="&sslmode=disable")) as store:
                await make(store, "t")
                wire.cut_all()
                wire.delivers, wire.cut_at = True, LAST_WORDS
                doubtful = asyncio.create_task(store.append("t", [draft("t")], {}))
                while not wire.cuts:
                    await asyncio.sleep(0.001)
                wire.refuses = True
                wire.cut_all()
                assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
                assert await refused(store.calls("t")) == "store_unavailable"
                settled = doubtful.done()
                wire.refuses = False
                assert (await doubtful).calls[0].seq == 0
                assert not settled
                assert (await store.append("t", [draft("t")], {})).calls[0].seq == 1
                await agrees(store, "t", 2)

    asyncio.run(scenario())


def test_a_wire_that_goes_dead_holds_nobody_up_for_long(postgres, schema):
    """The dead session still has the lock of all writers: it is ended by the next one of its process."""

    async def scenario():
        with wire_to(postgres.port) as wire:
            async with opened(postgres.url(schema, ports=[wire.port], more="&connect_timeout=1")) as store:
                await make(store, "t")
                store._place.patience_s = 1.0
                wire.cut_all()
                await store.append("t", [draft("t")], {})
                wire.dead.set()
                assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
                wire.dead.clear()
                _, codes = await until(store, lambda: store.append("t", [draft("t")], {}))
                assert codes <= {"store_unavailable"}
                await agrees(store, "t", 2)

    asyncio.run(scenario())


def test_a_database_that_became_read_only(postgres, schema):
    async def scenario():
        async with opened(postgres.url(schema)) as store:
            await make(store, "t")
            postgres.sql("ALTER DATABASE postgres SET default_transaction_read_only = on")
            postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moorage'")
            with pytest.raises(StoreFault, match="read-only"):
                await store.append("t", [draft("t")], {})
            postgres.sql("ALTER DATABASE postgres RESET ALL", "template1")
            assert (await store.append("t", [draft("t")], {})).calls[0].seq == 0

    try:
        asyncio.run(scenario())
    finally:
        postgres.sql("ALTER DATABASE postgres RESET ALL", "template1")


@pytest.fixture
def small_disk():
    place = Path(tempfile.mkdtemp(prefix="moor-pg-small-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", place], capture_output=True, check=False
    )
    try:
        if mounted.returncode:
            pytest.skip("mounting a small disk needs root")
        shutil.chown(place, "postgres")
        yield place
    finally:
        subprocess.run(["umount", place], check=False, capture_output=True)
        place.rmdir()


def test_a_server_whose_disk_is_full(postgres, schema, small_disk):
    async def scenario():
        async with opened(postgres.url(schema)) as store:
            await make(store, "t")
            postgres.sql(f"CREATE TABLESPACE {schema} LOCATION '{small_disk}'")
            rows = "SELECT repeat('x', 900) AS x FROM generate_series(1, 2000)"
            postgres.sql(f"CREATE TABLE {schema}.filler TABLESPACE {schema} AS {rows}")
            postgres.sql(f"ALTER TABLE {schema}.blobs SET TABLESPACE {schema}")
            code, answered = "nothing", 0
            while code == "nothing":
                content = os.urandom(200_000)
                given = [draft("t", metadata_digest=content[:16]), draft("t", choice=1)]
                code = await refused(store.append("t", given, {content[:16]: content}))
                answered += 2 if code == "nothing" else 0
            assert code == "store_unavailable" and answered
            await agrees(store, "t", answered)
            postgres.sql(f"DROP TABLE {schema}.filler")
            assert len((await store.append("t", given, {content[:16]: content})).calls) == 2
            await agrees(store, "t", answered + 2)

    try:
        asyncio.run(scenario())
    finally:
        postgres.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        postgres.sql(f"DROP TABLESPACE IF EXISTS {schema}")


def test_a_schema_that_is_newer_or_of_something_else(postgres, schema):
    url = postgres.url(schema)
    assert opening(url) is None
    postgres.sql(f"INSERT INTO {schema}.moorage_migrations VALUES ({len(MIGRATIONS) + 1}, 'later', 0)")
    assert opening(url).code == "store_newer"
    other = postgres.new_schema()
    postgres.sql(f"CREATE SCHEMA {other}; CREATE TABLE {other}.cats (name text)")
    assert opening(postgres.url(other)).code == "store_foreign"
    assert postgres.sql(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{other}'") == "1"


def test_a_schema_that_is_dropped_under_a_store(postgres, schema):
    async def scenario():
        async with opened(postgres.url(schema)) as store:
            await make(store, "t")
            postgres.sql(f"DROP SCHEMA {schema} CASCADE")
            for _ in range(2):
                assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
                assert await refused(store.find("t")) == "store_unavailable"

    asyncio.run(scenario())


def test_a_database_that_was_restored_from_an_older_copy_is_refused_until_a_restart(postgres, schema, tmp_path):
    async def scenario():
        url = postgres.url(schema)
        async with opened(url) as store, opened(url) as reader:
            await make(store, "t")
            await store.append("t", [draft("t")], {})
            postgres.dump(schema, tmp_path / "older")
            await store.append("t", [draft("t")], {})
            await reader.append("t", [draft("t")], {})
            postgres.restore(schema, tmp_path / "older")
            for one in (store, reader):
                for _ in range(2):
                    assert await refused(one.append("t", [draft("t")], {})) == "store_restored"
            async with opened(url) as restarted:
                # Also when it has grown beyond what was answered before.
                for seq in range(1, 5):
                    assert (await restarted.append("t", [draft("t")], {})).calls[0].seq == seq
                assert await refused(store.append("t", [draft("t")], {})) == "store_restored"
                await agrees(restarted, "t", 5)

    asyncio.run(scenario())


def test_a_standby_takes_over(schema, tmp_path):
    """Named with the primary in one URL; refused while it is a standby, also alone."""
    with pair(tmp_path) as (primary, standby):
        url = primary.url(schema, ports=[primary.port, standby.port])

        async def scenario():
            async with opened(url) as store:
                await make(store, "t")
                assert opening_in_thread(primary.url(schema, ports=[standby.port])).code == "store_read_only"
                assert (await store.append("t", [draft("t")], {})).calls[0].seq == 0
                await follow(primary, standby)
                primary.kill()
                assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
                standby.sql("SELECT pg_promote()")
                assert (await until(store, lambda: store.append("t", [draft("t")], {})))[0].calls[0].seq == 1
                await agrees(store, "t", 2)

        asyncio.run(scenario())


def test_a_standby_that_lost_what_was_answered_is_refused(schema, tmp_path):
    with pair(tmp_path) as (primary, standby):
        url = primary.url(schema, ports=[primary.port, standby.port])

        async def scenario():
            async with opened(url) as store:
                await make(store, "t")
                await store.append("t", [draft("t")], {})
                await follow(primary, standby)
                standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
                standby.sql("SELECT pg_reload_conf()")
                while standby.sql("SELECT count(*) FROM pg_stat_wal_receiver") != "0":
                    await asyncio.sleep(0.05)
                await store.append("t", [draft("t")], {})
                primary.kill()
                standby.sql("SELECT pg_promote()")
                with pytest.raises(StoreFault) as fault:
                    await store.append("t", [draft("t")], {})
                assert fault.value.code == "store_restored"
            async with opened(url) as restarted:
                assert (await restarted.append("t", [draft("t")], {})).calls[0].seq == 1

        asyncio.run(scenario())


def test_what_the_server_cannot_take_harms_nobody_else(postgres, schema):
    async def scenario():
        async with opened(postgres.url(schema)) as store:
            await make(store, "t", metadata={"nul": "a\0b"})
            work = [store.append("t", [draft("t")], {}) for _ in range(5)]
            poison = store._writing.run(lambda transaction: transaction.execute("SELECT 1 / 0").fetchone())
            results = await asyncio.gather(*work, poison, finished(store, "u", "g"), return_exceptions=True)
            assert [type(one).__name__ for one in results] == ["Appended"] * 5 + ["StoreFault", "NoneType"]
            await agrees(store, "t", 5)
            (lease,), _ = await store.lease(ask(consumer="a\0b"))
            assert [event.consumer async for event in first(store, "lease")] == ["a\ufffdb"]
            assert await store.nack([lease.lease_id], delay_s=0, drop=False, reason="\0") == 1
            assert (await store.trajectories({"prompt_uid": "g\0"}, 10, None)).rows == []

    async def first(store, kind):
        async for event in store.events(None, 0):
            if event.type == kind:
                yield event
                return

    asyncio.run(scenario())


@contextmanager
def pair(folder: Path):
    """A primary and a hot standby of it."""
    with postgres_server() as primary:
        place = Path(tempfile.mkdtemp(prefix="moor-pg-standby-", dir="/tmp"))
        try:
            standby = primary.clone(place)
            try:
                yield primary, standby
            finally:
                standby.stop()
        finally:
            shutil.rmtree(place, ignore_errors=True)


async def follow(primary, standby) -> None:
    """Until the standby has all."""
    there = primary.sql("SELECT pg_current_wal_lsn()")
    while standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{there}'") != "t":
        await asyncio.sleep(0.02)


def opening_in_thread(url: str) -> MoorageError | None:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(opening, url).result()
