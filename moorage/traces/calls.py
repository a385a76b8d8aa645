"""Kept calls, decoded."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moorage.capture.call import Call, Draft
from moorage.capture.chain import decode_record
from moorage.capture.tree import CallTree
from moorage.errors import FailedError
from moorage.pool.archive import Archive, KeptCall, Trace

__all__ = ["calls_of", "drafts_of", "tree_of"]


def drafts_of(kept: Sequence[KeptCall]) -> list[Draft | None]:
    """Their records; None for those that cannot be read."""
    return [_draft(one) for one in kept]


async def calls_of(archive: Archive, trace: Trace) -> list[Call]:
    """All calls of a trajectory. Raises FailedError `record_broken` that names the one that cannot be read."""
    uid = trace.trajectory.uid
    try:
        return await archive.calls(uid)
    except FailedError:
        kept = await archive.kept(uid)
    broken = [one.seq for one, draft in zip(kept, drafts_of(kept), strict=True) if draft is None]
    raise record_broken(uid, f"the record of call {broken[0]} cannot be read" if broken else "it cannot be read")


def tree_of(uid: str, calls: Sequence[Call]) -> CallTree:
    """Their tree. Raises FailedError `record_broken` for calls that do not fit together."""
    tree = CallTree()
    for call in calls:
        try:
            tree.add(call)
        except ValueError as fault:
            raise record_broken(uid, str(fault)) from None
    return tree


def record_broken(uid: str, what: str) -> FailedError:
    return FailedError(
        f"{uid}: {what}",
        code="record_broken",
        hint="the store gives back what it was not given: restore it from a copy",
        next=[f"moor trace verify {uid}"],
    )


def _draft(kept: KeptCall) -> Draft | None:
    if kept.record is None:
        return None
    try:
        return decode_record(kept.record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
