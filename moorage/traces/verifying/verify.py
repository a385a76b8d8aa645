"""`moor trace verify`: one trajectory, or all of a store, a page of them at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from moorage.errors import NotFoundError
from moorage.pool.archive import Archive, Trace, TraceAsk
from moorage.pool.faults import unknown_trajectory
from moorage.traces.verifying.beside import Blobs
from moorage.traces.verifying.faults import Findings
from moorage.traces.verifying.trajectory import verify_trajectory

__all__ = ["all_traces", "need_trace", "verify"]

PAGE = 256


async def verify(archive: Archive, uid: str | None, progress: Callable[[int, int], None]) -> Findings:
    """What was found in the trajectory `uid` (None: in all). `progress(done, total)` counts calls.

    Raises NotFoundError for an unknown uid.
    """
    findings, blobs = Findings(), Blobs(archive)
    if uid is not None:
        return await verify_trajectory(archive, await need_trace(archive, uid), blobs)
    _, total = await archive.size()
    async for trace in all_traces(archive):
        found = await _found(archive, trace, blobs)
        if found is not None:
            findings.add(found)
            progress(findings.calls, max(findings.calls, total))
    return findings


async def _found(archive: Archive, trace: Trace, blobs: Blobs) -> Findings | None:
    """None: it was let go while it was looked at, so that what is missing of it is no fault."""
    try:
        found = await verify_trajectory(archive, trace, blobs)
    except NotFoundError:
        return None
    gone = found.faults and await archive.find(trace.trajectory.uid) is None
    return None if gone else found


async def need_trace(archive: Archive, uid: str) -> Trace:
    """Raises NotFoundError."""
    trace = await archive.find(uid)
    if trace is None:
        raise unknown_trajectory(uid)
    return trace


async def all_traces(archive: Archive) -> AsyncIterator[Trace]:
    """Every trajectory, oldest first; those that are made meanwhile too."""
    after: int | None = None
    while True:
        page = await archive.traces(TraceAsk(after=after, limit=PAGE))
        for trace in page:
            yield trace
        if len(page) < PAGE:
            return
        after = page[-1].number
