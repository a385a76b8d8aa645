"""Threads for those who wait for changes: however many they are, requests have theirs for themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["Readers"]

THREADS = 4

P = ParamSpec("P")
T = TypeVar("T")


class Readers:
    """A few of them; who finds all at work waits in turn, and holds none meanwhile."""

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(THREADS, name)

    async def run(self, work: Callable[P, T], *words: P.args, **options: P.kwargs) -> T:
        """What `work` returns, or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*words, **options))

    def close(self) -> None:
        """What waits for its turn is given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
