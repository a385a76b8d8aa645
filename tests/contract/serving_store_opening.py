"""What opening a store of the control plane promises: the newest schema, whoever else opens it at the same moment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import moorage.serving.store.migrations
from moorage.errors import PreflightError
from moorage.serving.model import State
from moorage.serving.store.migrating import migrate_to
from moorage.serving.store.opening import _place, open_store
from moorage.serving.store.schema import HEAD, METADATA, VERSION_TABLE
from tests.contract.serving_store_parts import StoreTests, at, change, refused

OPENER = (
    "import sys; from datetime import datetime, UTC; from moorage.serving.store.opening import open_store\n"
    "from moorage.serving.spec.spec import ServingSpec\n"
    "print('here', flush=True); input(); store = open_store(sys.argv[1])\n"
    "store.declare(sys.argv[2], ServingSpec(model_id='m', model_source='o/m'), datetime.now(UTC)); store.close()\n"
)


class OpeningContract(StoreTests):
    """`bare`: the URL of a database that has nothing."""

    def test_the_migrations_make_what_the_code_knows(self, bare):
        open_store(bare).close()
        with engine_of(bare) as db:
            # Alembic cannot tell the conditions of indexes apart: the next test compares databases.
            options = {"include_name": lambda name, kind, _: (kind, name) != ("table", VERSION_TABLE)}
            context = MigrationContext.configure(db, opts={"version_table": VERSION_TABLE, **options})
            assert compare_metadata(context, METADATA) == []
        config = Config()
        config.set_main_option("script_location", str(Path(moorage.serving.store.migrations.__file__).parent))
        script = ScriptDirectory.from_config(config)
        assert [one.revision for one in script.walk_revisions()] == [f"{n:04}" for n in range(int(HEAD), 0, -1)]

    def test_an_old_database_becomes_as_a_new_one(self, bare, another):
        """With what is in it."""
        with engine_of(bare) as db:
            migrate_to(db, "0001", "it")
            for statement in OLD:
                db.execute(text(statement))
            assert "last_event" not in shape(db)
        store = open_store(bare)
        open_store(another).close()
        with engine_of(bare) as old, engine_of(another) as new:
            assert shape(old) == shape(new)
        (model,) = store.live()
        assert (model.alias, model.state, model.created_at) == ("alice/m", State.RUNNING, at(0).replace(microsecond=0))
        assert store.whose("secret") == "alice"
        self.acting(store, replace(change(model), events=(("DEPLOYING", {"n": 1}),)))
        assert [(one.sequence, one.count) for one in store.events(model.model_key, 10)] == [(1, 1), (2, 6)]
        assert (store.version() > 7, store.revisions(model.model_key)[0].generation) == (True, 1)
        store.close()

    def test_a_step_that_fails_leaves_the_old_database(self, bare):
        with engine_of(bare) as db:
            migrate_to(db, "0001", "it")
            db.execute(text("DROP TABLE events"))
            before = shape(db)
        assert refused(lambda: open_store(bare)) == "store_unusable"
        with engine_of(bare) as db:
            assert shape(db) == before
            assert db.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == "0001"

    def test_processes_that_open_a_new_one_at_once_all_can(self, bare):
        others = [
            subprocess.Popen(
                [sys.executable, "-c", OPENER, bare, f"u{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for n in range(3)
        ]
        for other in others:
            assert other.stdout.readline() == "here\n"
        for other in others:
            other.stdin.write("\n")
            other.stdin.flush()
        assert [other.wait(120) for other in others] == [0, 0, 0]
        for other in others:
            other.communicate()
        store = open_store(bare)
        assert sorted(one.user_id for one in store.live()) == ["u0", "u1", "u2"]
        store.close()

    def test_a_newer_one_is_refused(self, bare):
        open_store(bare).close()
        with engine_of(bare) as db:
            db.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
        with pytest.raises(PreflightError, match=f"schema 0999; this one knows {HEAD}") as caught:
            open_store(bare)
        assert caught.value.code == "store_newer"

    def test_that_of_another_program_is_refused_and_left_alone(self, bare):
        with engine_of(bare) as db:
            if db.dialect.name == "postgresql":
                db.execute(text("CREATE SCHEMA IF NOT EXISTS " + re.findall(r"search_path%3D(\w+)", bare)[0]))
            db.execute(text("CREATE TABLE theirs (n INTEGER)"))
            before = shape(db)
        assert refused(lambda: open_store(bare)) == "store_foreign"
        with engine_of(bare) as db:
            assert shape(db) == before


class engine_of:
    """A transaction in the database as the store opens it."""

    def __init__(self, url: str) -> None:
        self._engine = _place(url, 10, os.environ).open()

    def __enter__(self):
        self._transaction = self._engine.begin()
        return self._transaction.__enter__()

    def __exit__(self, *about):
        self._transaction.__exit__(*about)
        self._engine.dispose()


def shape(db) -> str:
    """Every table, column and index as the database tells them."""
    if db.dialect.name == "sqlite":
        # A column that was added stands last: put the columns in order.
        found = db.execute(text("SELECT name, sql FROM sqlite_master ORDER BY name")).all()
        return repr([(name, sorted(re.split(r",\s*", " ".join((sql or "").split())))) for name, sql in found])
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name"
        " FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
    )
    indexes = (
        "SELECT indexname, replace(indexdef, current_schema(), '') FROM pg_indexes"
        " WHERE schemaname = current_schema() ORDER BY 1"
    )
    return repr([db.execute(text(one)).all() for one in (columns, indexes)])


_KEY = "svc-alice-20260106-123000-abcdef"
_SPEC = '{"model_id"\\:"m","model_source"\\:"o/m","num_replicas"\\:1,"gpus_per_replica"\\:1,"engine_kwargs"\\:{}}'
_T = 1767702600000000
OLD = (
    "UPDATE store SET version = 7, event = 2",
    f"INSERT INTO users VALUES ('alice', {_T})",
    "INSERT INTO tokens VALUES (2, 'tok-1', 'alice',"
    f" '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b', {_T})",
    f"INSERT INTO models VALUES (3, '{_KEY}', 'alice', 'm', 'alice-202601061230-m', '{_SPEC}', 1, 1, 'RUNNING', NULL,"
    f" '[]', '{{}}', {_T}, {_T}, {_T}, 7)",
    f"INSERT INTO revisions VALUES ('{_KEY}', 1, '{_SPEC}', {_T})",
    f"INSERT INTO events VALUES (1, '{_KEY}', 'DEPLOY_REQUESTED', {_T}, {_T}, 1, '{{}}')",
    f"INSERT INTO events VALUES (2, '{_KEY}', 'DEPLOYING', {_T}, {_T}, 5, '{{\"n\"\\:1}}')",
)
"""What a store of the first schema holds."""
