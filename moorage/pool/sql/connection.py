"""The little that operations ask of a database's driver, and where databases differ.

Statements have `?` for their values, which are int, float, str, bytes or None. What `execute` gives need not have been
run yet: a driver that talks over a network sends on, and waits where rows are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["Connection", "Dialect", "Rows"]


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """Rows that were written."""

    def fetchone(self) -> Any:
        """The next row; None: there is none."""

    def fetchall(self) -> list[Any]:
        """Those that are left."""


class Connection(Protocol):
    """One at a time uses it."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows: ...


class Dialect(Protocol):
    """What each database says in its own way."""

    def add(self, db: Connection, statement: str, values: Sequence[Any]) -> int:
        """The `id` that an INSERT of one row was given."""

    def add_rows(self, db: Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Whole rows of `calls`, `pieces`, `extras` or `blobs`; a blob that is there already is left as it is."""
