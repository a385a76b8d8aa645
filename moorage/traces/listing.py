"""`moor trace list`: what a store holds, a row a session or trajectory."""

from __future__ import annotations

import contextlib
from typing import Any

from moorage.capture.call import Draft
from moorage.capture.packing import count
from moorage.errors import NotFoundError
from moorage.pool.archive import Archive, KeptCall, Trace, TraceAsk
from moorage.traces.calls import drafts_of

__all__ = ["trace_row", "trace_rows"]

DEFAULT_CHANNEL = "train"
PAGE = 512


async def trace_rows(archive: Archive, ask: TraceAsk) -> list[dict[str, Any]]:
    """The rows of the trajectories that were asked for."""
    rows = []
    for trace in await archive.traces(ask):
        with contextlib.suppress(NotFoundError):  # it was let go meanwhile
            rows.append(await trace_row(archive, trace))
    return rows


async def trace_row(archive: Archive, trace: Trace) -> dict[str, Any]:
    """One row: `tokens` counts what prompts added and what was sampled, `verdicts` and `reasons` the boundaries."""
    trajectory = trace.trajectory
    tally = _Tally()
    after = -1
    while True:
        page = await archive.kept(trajectory.uid, after, PAGE)
        for kept, draft in zip(page, drafts_of(page), strict=True):
            tally.add(kept, draft)
        if len(page) < PAGE:
            break
        after = page[-1].seq
    return {
        "uid": trajectory.uid,
        "kind": trajectory.kind,
        "prompt_uid": trajectory.prompt_uid,
        "channel": trajectory.channel or DEFAULT_CHANNEL,
        "state": trajectory.state,
        "mode": trajectory.options.get("mode"),
        **tally.shown(),
        "created_at": trajectory.created_at,
        "completed_at": trajectory.completed_at,
    }


class _Tally:
    """What the calls of one trajectory add up to."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("calls", "undelivered", "late", "unreadable"), 0)
        self._tokens = {"prompt": 0, "sampled": 0}
        self._verdicts = {"root": 0, "exact": 0, "branch": 0}
        self._reasons: dict[str, int] = {}
        self._times: list[float] = []

    def add(self, kept: KeptCall, draft: Draft | None) -> None:
        self._counts["calls"] += 1
        self._counts["undelivered"] += not kept.delivered
        self._counts["late"] += kept.late
        if draft is None:
            self._counts["unreadable"] += 1
            return
        self._tokens["prompt"] += count(draft.delta)
        self._tokens["sampled"] += count(draft.completion)
        self._verdicts[draft.verdict] += 1
        if draft.reason is not None:
            self._reasons[draft.reason] = self._reasons.get(draft.reason, 0) + 1
        self._times = [*self._times[:1], draft.created_at]

    def shown(self) -> dict[str, Any]:
        return {
            **self._counts,
            "tokens": self._tokens,
            "verdicts": self._verdicts,
            "reasons": self._reasons,
            "first_call_at": self._times[0] if self._times else None,
            "last_call_at": self._times[-1] if self._times else None,
        }
