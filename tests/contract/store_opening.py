"""Opening a PostgreSQL store, and what is told when it cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moorage.errors import MoorageError
from moorage.pool.postgres.store import PostgresStore


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def opening(url: str) -> MoorageError | None:
    """What it raises; None: it opens."""

    async def scenario() -> MoorageError | None:
        try:
            async with opened(url):
                return None
        except MoorageError as fault:
            return fault

    return asyncio.run(scenario())
