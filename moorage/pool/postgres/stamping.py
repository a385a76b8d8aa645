"""Stamps of trajectories: one question to the database for all who ask while the last one is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from moorage.pool.sql.connection import Connection
from moorage.pool.sql.store import Reads
from moorage.pool.sql.transaction import stamp_of

__all__ = ["Stamping"]

_AT_ONCE = 64


class Stamping:
    """Of one event loop."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def stamp(self, uid: str) -> int:
        """Raises StoreFault."""
        answer = self._waiting.get(uid)
        if answer is None:
            answer = self._waiting[uid] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            uids = list(waiting)
            try:
                stamps = await self._reads.run(lambda db, uids=uids: _stamps(db, uids))  # type: ignore[misc]
            except Exception as fault:
                for answer in waiting.values():
                    answer.set_exception(fault)
                    answer.exception()  # it may be that nobody waits for it any more
                continue
            for uid, answer in waiting.items():
                answer.set_result(stamps.get(uid, 0))
        self._asking = None


def _stamps(db: Connection, uids: Sequence[str]) -> dict[str, int]:
    """0, by being left out: unknown."""
    found: dict[str, int] = {}
    for start in range(0, len(uids), _AT_ONCE):
        some = list(uids[start : start + _AT_ONCE])
        some += some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))
        rows = db.execute(
            "SELECT t.uid, t.id,"  # noqa: S608
            " t.version + coalesce((SELECT max(c.seq) + 1 FROM calls c WHERE c.trajectory = t.id), 0)"
            f" FROM trajectories t WHERE t.uid IN ({', '.join('?' * len(some))})",
            some,
        )
        found.update({uid: stamp_of(trajectory, version) for uid, trajectory, version in rows.fetchall()})
    if "" in uids:
        found[""] = db.execute("SELECT shared FROM store").fetchone()[0]
    return found
