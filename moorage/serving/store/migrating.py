"""A database brought to the newest schema, whoever else opens it at the same moment."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from moorage.errors import PreflightError
from moorage.serving.store.schema import HEAD, VERSION_TABLE

__all__ = ["migrate", "migrate_to"]

_LOCK = 7_311_002_188_304
"""Of PostgreSQL's advisory lock that is held meanwhile."""


def migrate(engine: Engine, shown: str) -> None:
    """To the newest schema, in one transaction; an empty database gets it whole.

    Raises PreflightError `store_newer` and `store_foreign`, and SQLAlchemyError.
    """
    with engine.execution_options(alone=False).begin() as db:  # waits for nobody
        if _revision(db) == HEAD:
            return
    with engine.begin() as db:
        migrate_to(db, HEAD, shown)


def migrate_to(db: Connection, revision: str, shown: str) -> None:
    """To the schema of that migration, in the transaction that `db` is in. Raises as `migrate`."""
    # Only here: most openings find everything done, and this takes longer than all the rest of them.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    postgres = db.dialect.name == "postgresql"
    if postgres:
        db.execute(text("SET LOCAL statement_timeout = 0"))
        db.execute(text("SET LOCAL lock_timeout = 0"))
        db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _make_schema(db)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    # Another process may have been first: what was true before the lock need not be true now.
    _check(db, {one.revision for one in script.walk_revisions()}, shown)
    with EnvironmentContext(config, script, fn=lambda done, _: script._upgrade_revs(revision, done)) as environment:
        environment.configure(connection=db, version_table=VERSION_TABLE)
        environment.run_migrations()


def _make_schema(db: Connection) -> None:
    # Not IF NOT EXISTS alone: that wants a right that whoever only owns the schema lacks.
    if db.execute(text("SELECT current_schema()")).scalar() is None:
        name = str(db.execute(text("SELECT current_setting('search_path')")).scalar_one()).strip().strip('"')
        db.execute(text(f"CREATE SCHEMA IF NOT EXISTS {db.dialect.identifier_preparer.quote(name)}"))


def _check(db: Connection, known: set[str], shown: str) -> None:
    found = _revision(db)
    if found is None:
        if inspect(db).get_table_names():
            raise PreflightError(
                f"{shown} has tables of another program",
                code="store_foreign",
                hint="name another file, or another schema by ?options=-csearch_path%3DNAME at the end of the URL",
            )
        return
    if found not in known:
        raise PreflightError(
            f"{shown} was written by a newer Moorage (schema {found}; this one knows {HEAD})",
            code="store_newer",
            hint="run the newer version, or name another database with --db",
        )


def _revision(db: Connection) -> str | None:
    """None: it has no schema of ours."""
    if not inspect(db).has_table(VERSION_TABLE):
        return None
    found = db.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a name of ours
    return None if found is None else str(found)
