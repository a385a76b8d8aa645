"""The control plane's store in SQLite is opened, made and migrated, or refused with the reason."""

from __future__ import annotations

import sqlite3
import stat
from random import Random

import pytest

pytest.importorskip("sqlalchemy")

from moorage.errors import UsageError
from moorage.serving.store.opening import open_store
from tests.contract.serving_store_opening import OpeningContract
from tests.contract.serving_store_parts import NOW, refused, spec


class TestOpening(OpeningContract):
    @pytest.fixture
    def bare(self, tmp_path):
        return f"sqlite:///{tmp_path}/serving.db"

    @pytest.fixture
    def another(self, tmp_path):
        return f"sqlite:///{tmp_path}/another.db"


def test_the_file_is_its_owners_alone_and_every_commit_is_synced(tmp_path):
    path = tmp_path / "deep" / "er % ?.db"
    store = open_store(f"sqlite:///{path}")
    store.declare("alice", spec(), NOW)
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o600}
    assert {one.name for one in path.parent.iterdir()} == {f"{path.name}{end}" for end in ("", "-wal", "-shm")}
    for engine in (store._database._reads, store._database._writes):
        with engine.begin() as db:
            assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_link_leads_to_the_file(tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "real.db")
    for name in "ab":
        store = open_store(f"sqlite:///{link}")
        store.declare("alice", spec(name), NOW)
        store.close()
    assert (link.is_symlink(), len(open_store(f"sqlite:///{tmp_path}/real.db").live())) == (True, 2)


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a\0b", "mysql://h/d", "x.db"]
)
def test_what_is_no_url_of_a_store_is_refused(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "secret"),
    [("postgresql://u:p@ss@h/d", "p@ss"), ("postgresql://u:100%@h/d", "100%"), ("mysql://u:geheim@h/d", "geheim")],
)
def test_a_password_is_not_shown(url, secret):
    pytest.importorskip("psycopg")
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert secret not in caught.value.message + caught.value.hint


def test_what_is_no_file_of_sqlite_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"something else" * 1000)
    assert refused(lambda: open_store(f"sqlite:///{path}")) == "store_corrupt"
    assert path.read_bytes() == b"something else" * 1000
    assert refused(lambda: open_store(f"sqlite:///{tmp_path}")) == "store_unusable"
    assert refused(lambda: open_store(f"sqlite:///{path}/below.db")) in ("store_unusable", "store_read_only")


def test_an_empty_file_is_filled(tmp_path):
    path = tmp_path / "empty.db"
    path.touch()
    store = open_store(f"sqlite:///{path}")
    assert store.version() == 0
    store.close()


def test_chance_is_passed_in(tmp_path):
    made = []
    for name in "ab":
        store = open_store(f"sqlite:///{tmp_path}/{name}.db", ids=Random(3))
        store.create_user("alice", NOW)
        made.append((store.create_token("alice", NOW), store.declare("alice", spec(), NOW).model.model_key))
        store.close()
    assert made[0] == made[1]


def test_a_key_that_is_taken_is_not_given_again(tmp_path):
    """Not even one of a model that was deleted."""

    class Twice(Random):
        """Says everything twice, but not for ever."""

        said = 0

        def choice(self, seq):
            self.said += 1
            return seq[self.said // 12 % len(seq)]

    store = open_store(f"sqlite:///{tmp_path}/x.db", ids=Twice())
    keys = [store.declare("alice", spec(f"m{n}"), NOW).model.model_key for n in range(6)]
    assert len(set(keys)) == 6
    store.close()


def test_it_is_not_one_of_the_gateways_files(tmp_path):
    path = tmp_path / "gateway.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE moorage_migrations (version INTEGER)")
    db.close()
    assert refused(lambda: open_store(f"sqlite:///{path}")) == "store_foreign"
