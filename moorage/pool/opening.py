"""Opening a store by its URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from moorage.errors import PreflightError, UsageError
from moorage.extras import install_command

if TYPE_CHECKING:
    from moorage.pool.archive import Archive
    from moorage.pool.contract import Store

__all__ = ["is_postgres", "open_store", "sqlite_file"]


@overload
def open_store(url: str, *, read_only: Literal[True]) -> Archive: ...


@overload
def open_store(url: str, *, read_only: Literal[False], max_attempts: int = 5) -> Store: ...


def open_store(url: str, *, read_only: bool, max_attempts: int = 5) -> Archive | Store:
    """The store at `url`, still to be opened by its `open`. `max_attempts`: deliveries of a group without an ack.

    Raises UsageError for what is no store's URL, PreflightError `package_missing` without PostgreSQL's driver.
    """
    if is_postgres(url):
        return _postgres(url, read_only=read_only, max_attempts=max_attempts)
    path = sqlite_file(url)
    if read_only:
        from moorage.pool.sqlite.archive import SqliteArchive

        return SqliteArchive(path)
    from moorage.pool.sqlite.store import SqliteStore

    return SqliteStore(path, max_attempts=max_attempts)


def is_postgres(url: str) -> bool:
    """Whether it names a database that several machines can have open."""
    return url.startswith(("postgresql://", "postgres://"))


def sqlite_file(url: str) -> Path:
    """The file of `sqlite:///FILE`. Raises UsageError for anything else."""
    scheme, _, place = url.partition(":///")
    if scheme != "sqlite" or not place:
        # It is not shown: it may be meant as a URL with a password.
        raise UsageError(
            "--db: this is no URL of a store",
            code="bad_value",
            hint="write sqlite:///FILE or postgresql://USER@HOST/DATABASE",
        )
    return Path(place)


def _postgres(url: str, *, read_only: bool, max_attempts: int) -> Archive | Store:
    try:
        from moorage.pool.postgres.archive import PostgresArchive
        from moorage.pool.postgres.store import PostgresStore
    except ImportError as fault:
        # Without libpq psycopg itself raises ImportError.
        raise PreflightError(
            f"PostgreSQL's driver cannot be used: {fault}",
            code="package_missing",
            hint="the store in PostgreSQL needs the extra postgres",
            next=[install_command("postgres")],
        ) from fault
    return PostgresArchive(url) if read_only else PostgresStore(url, max_attempts=max_attempts)
