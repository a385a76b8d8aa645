"""Giving empty pages back to the file system, some at a time."""

from __future__ import annotations

from moorage.pool.sql.transaction import Transaction

__all__ = ["free_pages"]


def free_pages(transaction: Transaction, pages: int) -> int:
    """Bytes that the file will be shorter by. 0: no page is empty, or the file is one that was made without it."""

    def asked(name: str) -> int:
        return int(transaction.execute(f"PRAGMA {name}").fetchone()[0])

    if asked("auto_vacuum") != _INCREMENTAL or not asked("freelist_count"):
        return 0
    before = asked("page_count")
    transaction.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()  # it goes on while it is read
    return (before - asked("page_count")) * asked("page_size")


_INCREMENTAL = 2
