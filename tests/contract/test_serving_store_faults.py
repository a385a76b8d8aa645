"""The control plane's store in SQLite when its file cannot take a change: it says so, keeps nothing, and goes on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest

pytest.importorskip("sqlalchemy")

from moorage.errors import FailedError
from moorage.serving.store.opening import open_store
from tests.contract import serving_store_kills as kills
from tests.contract.serving_store_parts import NOW, refused, spec
from tests.contract.test_sqlite_faults import fill_up, small_disk


@pytest.fixture
def path(tmp_path):
    return tmp_path / "serving.db"


@pytest.fixture
def store(path):
    store = open_store(f"sqlite:///{path}", patience_s=0.3)
    store.create_user("alice", NOW)
    store.declare("alice", spec("first"), NOW)
    yield store
    store.close()


def failed(work) -> str:
    """The message of the refusal."""
    with pytest.raises(FailedError) as caught:
        work()
    assert "INSERT" not in caught.value.message
    assert (caught.value.code, bool(caught.value.hint)) == ("store_failed", True)
    return caught.value.message


def all_fail(store) -> None:
    for work in (
        lambda: store.declare("alice", spec("lost"), NOW),
        lambda: store.create_token("alice", NOW),
        lambda: store.take_lease("l", "me", 0, 1),
        lambda: store.whose("x"),
        store.live,
        store.version,
    ):
        failed(work)


def names(store) -> list[str]:
    return [one.suffix for one in store.live()]


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    yield from small_disk(tmp_path, request.param, "12M")


def test_a_full_disk_refuses_whole_changes_and_is_forgotten_when_there_is_room(disk, request):
    url = f"sqlite:///{disk}/serving.db"
    store = open_store(url)
    request.addfinalizer(store.close)
    taken = [0]

    def declare_until_refused():
        while True:
            big = spec(f"m{taken[0]}", engine_kwargs={"x": "y" * 50_000})
            store.declare("alice", big, NOW)
            taken[0] += 1

    for _ in range(2):
        fill_up(disk / "filler")
        assert "full" in failed(declare_until_refused)
        failed(lambda: store.create_user("bob", NOW))
        assert names(store) == [f"m{n}" for n in range(taken[0])]
        (disk / "filler").unlink()
        store.declare("alice", spec(f"m{taken[0]}"), NOW)
        taken[0] += 1
    store.close()
    store = open_store(url)
    assert (names(store), store.has_user("bob")) == ([f"m{n}" for n in range(taken[0])], False)
    store.close()


def test_a_file_that_others_hold_is_waited_for_and_then_not(store, path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "locked" in failed(lambda: store.declare("alice", spec(), NOW))
    assert names(store) == ["first"]
    open_store(f"sqlite:///{path}", patience_s=0.3).close()
    other.execute("ROLLBACK")
    other.close()
    assert store.declare("alice", spec(), NOW).created


def test_a_file_that_was_moved_away_is_gone_until_it_is_back(store, path, tmp_path):
    path.rename(tmp_path / "away.db")
    all_fail(store)
    assert not path.exists()
    (tmp_path / "away.db").rename(path)
    assert names(store) == ["first"]
    assert store.declare("alice", spec("second"), NOW).created
    with closing(open_store(f"sqlite:///{path}")) as another:
        assert names(another) == ["first", "second"]


def test_a_deleted_file_is_not_made_anew(store, path):
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink()
    all_fail(store)
    assert not path.exists()


def test_a_backup_that_was_put_in_its_place_is_what_counts(store, path, tmp_path):
    store._database.close()
    shutil.copy(path, tmp_path / "backup.db")
    store.declare("alice", spec("later"), NOW)
    version = store.version()
    store.live()
    store._database.close()
    (tmp_path / "backup.db").rename(path)  # nobody has it open just now, so no log is left behind
    assert names(store) == ["first"]
    assert store.version() < version
    # The numbers come again with other contents: nothing that was read before is taken for it.
    store.declare("alice", spec("other"), NOW)
    assert names(store) == ["first", "other"]
    assert len(store.changed_since(version + 5, None)[1]) == 2


def test_a_file_of_another_schema_in_its_place_is_refused(store, path, tmp_path):
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE x (y)")
    other.commit()
    other.close()
    store._database.close()  # as the operator did: a log that stays behind belongs to the old file
    kept = path.rename(tmp_path / "kept.db")
    (tmp_path / "other.db").rename(path)
    all_fail(store)
    kept.rename(path)
    assert names(store) == ["first"]


def test_a_commit_into_a_file_that_was_moved_meanwhile_is_not_acknowledged(store, path, tmp_path, monkeypatch):
    from moorage.serving.store import sql_store

    declare = sql_store.declaring.declare

    def moved(*given, **named):
        done = declare(*given, **named)
        path.rename(tmp_path / "away.db")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(sql_store.declaring, "declare", moved)
        assert "moved" in failed(lambda: store.declare("alice", spec(), NOW))
    all_fail(store)


def test_a_file_that_cannot_be_written(disk):
    if subprocess.run(["chattr", "-i", disk], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no such mark")
    path = disk / "serving.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        store.declare("alice", spec("first"), NOW)
        store._database.close()
        subprocess.run(["chattr", "+i", path], check=True)
        failed(lambda: store.declare("alice", spec(), NOW))
        assert refused(lambda: open_store(f"sqlite:///{path}")) == "store_read_only"
        subprocess.run(["chattr", "-i", path], check=True)
        assert store.declare("alice", spec(), NOW).created
        assert names(store) == ["first", "m"]


def test_a_damaged_file_fails_and_nothing_else(store, path):
    store._database.close()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    failed(store.live)
    assert refused(lambda: open_store(f"sqlite:///{path}")) in ("store_corrupt", "store_unusable")


@pytest.mark.parametrize("lines", [1, 6, 17])
def test_what_was_acknowledged_is_there_after_a_kill(path, lines):
    url = f"sqlite:///{path}"
    open_store(url).close()
    said = kills.kill_after(kills.start(url, "alice"), lines)
    kills.check(url, "alice", said)


def test_two_that_write_at_once_are_killed(path):
    url = f"sqlite:///{path}"
    open_store(url).close()
    processes = {user: kills.start(url, user) for user in ("alice", "bob")}
    said = {user: kills.kill_after(process, 9) for user, process in processes.items()}
    for user, lines in said.items():
        kills.check(url, user, lines)
