"""A store whose file cannot take a write says so, keeps nothing of it, and goes on when the cause is gone."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from moorage.capture.chain import verify_chain
from moorage.capture.packing import pack_ids
from moorage.errors import PreflightError
from moorage.pool.faults import StoreFault
from moorage.pool.sqlite.schema import MIGRATIONS
from moorage.pool.sqlite.store import SqliteStore
from tests.contract.store_parts import draft, finished, lease_all, make, refused, step


@asynccontextmanager
async def opened(path: Path):
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def small_disk(folder: Path, kind: str, size: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = folder / "disk"
    place.mkdir()
    if kind == "ext4":
        image = folder / "image"
        subprocess.run(["truncate", "-s", size, image], check=True)
        # On blocks smaller than a page SQLite's shared memory has holes, which end the process on a full disk.
        subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", image], check=True)
        mount = ["mount", "-o", "loop", image, place]
    else:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no mount here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["chattr", "-R", "-i", place], check=False, capture_output=True)
        subprocess.run(["umount", place], check=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    yield from small_disk(tmp_path, request.param, "12M")


@pytest.fixture
def ext4(tmp_path):
    yield from small_disk(tmp_path, "ext4", "12M")


def fill_up(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file, pytest.raises(OSError):
        while file.write(b"x" * 4096):
            pass


async def append_many(store, uid: str, many: int) -> list[object]:
    """What each of so many calls at once got."""
    ids = [pack_ids((n * 48_271 + k * k * 7919) % 2**32 for k in range(4000)) for n in range(many)]
    work = (store.append(uid, [draft(uid, delta=one)], {}) for one in ids)
    return await asyncio.gather(*work, return_exceptions=True)


async def agrees(store, uid: str, answered: int) -> None:
    calls = await store.calls(uid)
    assert [call.seq for call in calls] == list(range(answered))
    assert verify_chain(await store.records(uid)) is None


def test_a_full_disk_refuses_whole_writes_and_is_forgotten_when_there_is_room(disk):
    async def scenario():
        async with opened(disk / "store.db") as store:
            await make(store, "t")
            filler = disk / "filler"
            answered = sum(not isinstance(one, BaseException) for one in await append_many(store, "t", 20))
            assert answered == 20
            for _ in range(2):
                fill_up(filler)
                results = []
                while not any(isinstance(one, BaseException) for one in results):
                    results = await append_many(store, "t", 10)
                    answered += sum(not isinstance(one, BaseException) for one in results)
                faults = [one for one in results if isinstance(one, BaseException)]
                assert {type(one) for one in faults} == {StoreFault}
                assert {(one.code, one.http_status) for one in faults} == {("store_unavailable", 503)}
                await agrees(store, "t", answered)
                filler.unlink()
                results = await append_many(store, "t", 5)
                assert not [one for one in results if isinstance(one, BaseException)]
                answered += 5
                await agrees(store, "t", answered)
            # What was kept is in the file, not only in memory.
        async with opened(disk / "store.db") as store:
            await agrees(store, "t", answered)

    asyncio.run(scenario())


def test_every_kind_of_write_is_refused_on_a_full_disk(disk):
    async def scenario():
        async with opened(disk / "store.db") as store:
            await make(store, "t")
            await finished(store, "u", "g")
            await finished(store, "v", "h")
            lease = (await lease_all(store, max_groups=1))[0]
            stats = await store.stats(None, 1)
            filler = disk / "filler"
            fill_up(filler)
            # The log is reused where it was written before: use that up.
            while not any(isinstance(one, StoreFault) for one in await append_many(store, "t", 3)):
                pass
            calls = len(await store.calls("t"))
            big = {"x": os.urandom(60_000).hex()}
            for work in (
                store.submit([step("n", metadata=big)], None),
                make(store, "n", metadata=big),
            ):
                assert await refused(work) == "store_unavailable"
            assert await store.find("n") is None
            assert len(await store.calls("t")) == calls
            filler.unlink()
            stats["train"]["steps"] += calls
            assert await store.stats(None, 1) == stats
            assert await store.ack([lease.lease_id]) == 1

    asyncio.run(scenario())


def test_a_file_that_became_read_only(ext4):
    async def scenario():
        async with opened(ext4 / "store.db") as store:
            await make(store, "t")
            await store.append("t", [draft("t")], {})
            files = [ext4 / "store.db", ext4 / "store.db-wal"]
            subprocess.run(["chattr", "+i", *files], check=True)
            assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
            assert await refused(store.complete("t", reward=None, channel=None)) == "store_unavailable"
            subprocess.run(["chattr", "-i", *files], check=True)
            assert (await store.append("t", [draft("t")], {})).calls[0].seq == 1
            await agrees(store, "t", 2)

    asyncio.run(scenario())


def test_a_file_that_was_moved_away_and_comes_back(tmp_path):
    async def scenario():
        path, away = tmp_path / "store.db", tmp_path / "away"
        async with opened(path) as store:
            await make(store, "t")
            await store.append("t", [draft("t")], {})
            path.rename(away)
            for _ in range(3):
                assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
                assert await refused(store.find("t")) == "store_unavailable"
            assert not path.exists()
            away.rename(path)
            assert (await store.append("t", [draft("t")], {})).calls[0].seq == 1
            await agrees(store, "t", 2)

    asyncio.run(scenario())


def test_a_folder_that_was_moved_away_and_comes_back(tmp_path):
    async def scenario():
        async with opened(tmp_path / "data" / "store.db") as store:
            await make(store, "t")
            for seq in range(3):
                assert (await store.append("t", [draft("t")], {})).calls[0].seq == seq
                (tmp_path / "data").rename(tmp_path / "away")
                for _ in range(2):
                    assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
                (tmp_path / "away").rename(tmp_path / "data")
            await agrees(store, "t", 3)

    asyncio.run(scenario())


def test_a_link_to_the_file_is_as_good_as_the_file(tmp_path):
    async def scenario():
        (tmp_path / "real").mkdir()
        (tmp_path / "link.db").symlink_to(tmp_path / "real" / "store.db")
        for seq in range(2):
            async with opened(tmp_path / "link.db") as store:
                if not seq:
                    await make(store, "t")
                assert (await store.append("t", [draft("t")], {})).calls[0].seq == seq

    asyncio.run(scenario())


def test_a_deleted_file_is_never_made_anew_behind_its_sessions(tmp_path):
    async def scenario():
        path = tmp_path / "store.db"
        async with opened(path) as store:
            await make(store, "t")
            for name in (path, tmp_path / "store.db-wal", tmp_path / "store.db-shm"):
                name.unlink()
            for _ in range(2):
                assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
            assert not path.exists()

    asyncio.run(scenario())


def test_a_log_that_was_deleted_loses_nothing(tmp_path):
    async def scenario():
        path = tmp_path / "store.db"
        async with opened(path) as store:
            await make(store, "t")
            await store.append("t", [draft("t")], {})
            (tmp_path / "store.db-wal").unlink()
            assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"
            assert (await store.append("t", [draft("t")], {})).calls[0].seq == 1
            await agrees(store, "t", 2)

    asyncio.run(scenario())


def test_another_store_put_in_its_place_is_used_from_then_on(tmp_path):
    async def scenario():
        async with opened(tmp_path / "other.db") as other:
            await make(other, "o")
        async with opened(tmp_path / "store.db") as store:
            await make(store, "t")
            for end in ("-wal", "-shm"):
                (tmp_path / f"store.db{end}").unlink()
            (tmp_path / "other.db").rename(tmp_path / "store.db")
            # The first write is refused; it may be one that the store makes by itself.
            code = await refused(store.append("t", [draft("t")], {}))
            assert code in ("store_unavailable", "unknown_trajectory")
            assert await refused(store.append("t", [draft("t")], {})) == "unknown_trajectory"
            assert (await store.append("o", [draft("o")], {})).calls[0].seq == 0

    asyncio.run(scenario())


def test_a_file_that_was_restored_from_an_older_copy_is_refused_until_a_restart(tmp_path):
    path = tmp_path / "store.db"

    def copy(source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
            one.backup(other)

    async def scenario():
        async with opened(path) as store:
            await make(store, "t")
            await store.append("t", [draft("t")], {})
            copy(path, tmp_path / "older")
            await store.append("t", [draft("t")], {})
            copy(tmp_path / "older", path)
            for _ in range(2):
                assert await refused(store.append("t", [draft("t")], {})) == "store_restored"
            async with opened(path) as restarted:
                assert (await restarted.append("t", [draft("t")], {})).calls[0].seq == 1
                await agrees(restarted, "t", 2)

    asyncio.run(scenario())


def test_another_writer_that_holds_the_file_is_waited_for(tmp_path):
    async def scenario():
        path = tmp_path / "store.db"
        async with opened(path) as store:
            await make(store, "t")
            other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")
            appending = asyncio.create_task(store.append("t", [draft("t")], {}))
            assert (await store.find("t")).calls == 0
            assert not appending.done()
            other.execute("ROLLBACK")
            other.close()
            assert (await appending).calls[0].seq == 0

    asyncio.run(scenario())


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "store.db"

    async def scenario():
        async with opened(path):
            pass

    asyncio.run(scenario())
    db = sqlite3.connect(path)
    db.execute("INSERT INTO moorage_migrations VALUES (?, 'later', 0)", (len(MIGRATIONS) + 1,))
    db.commit()
    db.close()
    before = path.read_bytes()
    assert opening(path) == "store_newer"
    assert path.read_bytes() == before


def test_files_that_are_no_store(tmp_path):
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database" * 5000)
    assert opening(garbage) == "store_corrupt"
    assert garbage.read_bytes() == b"not a database" * 5000
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE cats (name TEXT)")
    db.commit()
    db.close()
    assert opening(other) == "store_foreign"
    assert opening(tmp_path) == "store_unusable"
    (tmp_path / "file").touch()
    assert opening(tmp_path / "file" / "store.db") == "store_unusable"


def test_a_place_that_cannot_be_written(ext4):
    subprocess.run(["mount", "-o", "remount,ro", ext4], check=True)
    assert opening(ext4 / "store.db") in ("store_unusable", "store_read_only")
    subprocess.run(["mount", "-o", "remount,rw", ext4], check=True)
    assert opening(ext4 / "store.db") == "opened"
    subprocess.run(["mount", "-o", "remount,ro", ext4], check=True)
    assert opening(ext4 / "store.db") == "store_read_only"
    subprocess.run(["mount", "-o", "remount,rw", ext4], check=True)


def test_a_damaged_file_is_a_fault_and_no_crash(tmp_path):
    path = tmp_path / "store.db"

    async def fill():
        async with opened(path) as store:
            await make(store, "t")
            await append_many(store, "t", 60)

    async def read():
        async with opened(path) as store:
            return await refused(store.calls("t"))

    asyncio.run(fill())
    db = sqlite3.connect(path)
    roots = dict(db.execute("SELECT name, rootpage FROM sqlite_master").fetchall())
    leaf = db.execute("SELECT min(pageno) FROM dbstat WHERE name = 'calls' AND pagetype = 'leaf'").fetchone()[0]
    db.close()
    whole = path.read_bytes()
    codes = set()
    for page in (1, roots["calls"], roots["rounds_state"], leaf):
        begin = (page - 1) * 16384
        path.write_bytes(whole[:begin] + os.urandom(16384) + whole[begin + 16384 :])
        try:
            codes.add(asyncio.run(read()))
        except PreflightError as fault:
            codes.add(fault.code)
    assert codes == {"store_corrupt", "store_unavailable"}


def test_a_closed_store_says_so(tmp_path):
    async def scenario():
        async with opened(tmp_path / "store.db") as store:
            await make(store, "t")
            going = [asyncio.create_task(store.append("t", [draft("t")], {})) for _ in range(30)]
            await asyncio.sleep(0)
        # What was begun was finished.
        assert [appended.calls[0].seq for appended in await asyncio.gather(*going)] == list(range(30))
        assert await refused(store.append("t", [draft("t")], {})) == "store_unavailable"

    asyncio.run(scenario())


def opening(path: Path) -> str:
    """The code that opening ends with."""

    async def scenario() -> str:
        try:
            async with opened(path):
                return "opened"
        except PreflightError as fault:
            assert str(path) in fault.message
            return fault.code

    return asyncio.run(scenario())
