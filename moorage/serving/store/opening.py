"""Opening a store of the control plane by its URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from secrets import SystemRandom
from typing import TYPE_CHECKING

from moorage.errors import PreflightError, UsageError
from moorage.extras import install_command
from moorage.pool.opening import is_postgres, sqlite_file

if TYPE_CHECKING:
    from moorage.serving.store.contract import Store
    from moorage.serving.store.ids import Ids
    from moorage.serving.store.postgres import PostgresSchema
    from moorage.serving.store.sqlite import SqliteFile

__all__ = ["open_store"]

PATIENCE_S = 10.0
"""How long a change waits for other processes' changes."""


def open_store(
    url: str, *, ids: Ids | None = None, patience_s: float = PATIENCE_S, environ: Mapping[str, str] = os.environ
) -> Store:
    """The store at `sqlite:///FILE` or `postgresql://…`, with the newest schema; it is made when there is none.

    `ids`: where keys and secrets come from; None: the system's randomness. Close it when done. Raises UsageError for
    what is no store's URL, PreflightError `package_missing`, `store_unusable`, `store_read_only`, `store_corrupt`,
    `store_newer` (its schema is of a newer Moorage), `store_foreign` (it has tables of another program).
    """
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from moorage.serving.store.migrating import migrate
        from moorage.serving.store.sql_store import SqlStore

        place = _place(url, patience_s, environ)
        engine = place.open()
    except ImportError as fault:
        raise PreflightError(
            f"the store's packages cannot be used: {fault}",
            code="package_missing",
            hint="the store needs the extra serve, and in PostgreSQL the extra postgres too",
            next=[install_command("serve", "postgres")],
        ) from fault
    try:
        migrate(engine, place.shown)
    except (SQLAlchemyError, OSError) as fault:
        engine.dispose()
        raise place.unusable(fault) from fault
    except BaseException:
        engine.dispose()
        raise
    return SqlStore(place.database(engine), SystemRandom() if ids is None else ids)


def _place(url: str, patience_s: float, environ: Mapping[str, str]) -> SqliteFile | PostgresSchema:
    if is_postgres(url):
        from moorage.pool.postgres.place import Place
        from moorage.serving.store.postgres import PostgresSchema

        return PostgresSchema(url, Place(url, environ).shown, environ, patience_s)
    from moorage.serving.store.sqlite import SqliteFile

    path = sqlite_file(url)
    if path.name in ("", ":memory:") or "\0" in url:
        raise UsageError(
            f"--db: {url!r} names no file",
            code="bad_value",
            hint="write sqlite:///FILE: what is declared must outlive the process",
        )
    return SqliteFile(path, patience_s)
