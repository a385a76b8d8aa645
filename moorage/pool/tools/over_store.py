"""A store itself, without a gateway: it is read as it lies, and opened for writing only to mark and to let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from moorage.pool.arrow import need_pyarrow, step_batches
from moorage.pool.opening import open_store
from moorage.pool.retention import told
from moorage.pool.times import rfc3339

if TYPE_CHECKING:
    import pyarrow

    from moorage.pool.archive import Archive
    from moorage.pool.contract import Page, Retention, Store

__all__ = ["OverStore"]

_PAGE = 1000
_LOOK_S = 0.25
_T = TypeVar("_T")


class OverStore:
    """`moorage.pool.tools.source.Source` over a store's URL."""

    def __init__(self, url: str) -> None:
        """Raises UsageError for what is no store's URL."""
        self.name = url
        self._archive: Archive = open_store(url, read_only=True)
        self._opened = False
        self._runner = asyncio.Runner()

    def close(self) -> None:
        if self._opened:
            self._runner.run(self._archive.close())
        self._runner.close()

    def stats(self, channel: str | None, n_rollouts: int | None) -> dict[str, Any]:
        archive = self._reading()
        return self._runner.run(archive.stats(channel, n_rollouts or 1, time.time()))

    def lines(self, filters: Mapping[str, Any]) -> Iterator[list[bytes]]:
        for page in self._pages(filters, packed=False):
            yield [msgspec.json.encode(step) for step in page.rows]

    def batches(self, filters: Mapping[str, Any]) -> Iterator[list[pyarrow.RecordBatch]]:
        need_pyarrow()
        for page in self._pages(filters, packed=True):
            yield list(step_batches(page.rows))

    def events(self, channel: str | None, after: int | None) -> Iterator[dict[str, Any]]:
        archive = self._reading()
        place = self._runner.run(archive.latest_event())
        if after is not None:
            place = min(after, place)
        while True:
            some = self._runner.run(archive.events(place, _PAGE))
            for event in some:
                place = event.id
                if channel is None or event.channel == channel:
                    fields = {name: value for name, value in msgspec.structs.asdict(event).items() if value is not None}
                    yield fields | {"at": rfc3339(event.at)}
            if not some:
                time.sleep(_LOOK_S)

    def mark(self, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
        return self._written(lambda store: store.mark(uid, step_index, marks))

    def retain(self, ask: Retention, *, dry_run: bool) -> dict[str, Any]:
        if dry_run:
            planned = self._runner.run(self._reading().retainable(ask, time.time()))
        else:
            planned = self._written(lambda store: store.retain(ask, dry_run=False))
        return told(planned)

    def _pages(self, filters: Mapping[str, Any], *, packed: bool) -> Iterator[Page]:
        archive = self._reading()
        cursor: str | None = None
        while True:
            page = self._runner.run(archive.steps(filters, _PAGE, cursor, packed=packed))
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    def _reading(self) -> Archive:
        if not self._opened:
            self._runner.run(self._archive.open())
            self._opened = True
        return self._archive

    def _written(self, work: Callable[[Store], Awaitable[_T]]) -> _T:
        self._reading()  # a store that is not there is not made

        async def run() -> _T:
            store = open_store(self.name, read_only=False)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return self._runner.run(run())
