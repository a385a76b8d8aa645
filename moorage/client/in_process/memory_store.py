"""A store in memory for sessions that nobody else reads: gone with its process, and with each session that ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from moorage.capture.call import Call, Draft
from moorage.errors import ConflictError, NotFoundError
from moorage.pool.contract import Appended, Kind, NewTrajectory, Trajectory

__all__ = ["MemoryStore"]


class MemoryStore:
    """The part of `moorage.pool.contract.Store` that sessions need. Nothing is written to disk, no hash is made."""

    def __init__(self) -> None:
        self._rows: dict[str, Trajectory] = {}
        self._calls: dict[str, list[Call]] = {}
        self._blobs: dict[str, dict[bytes, bytes]] = {}
        self._state: dict[str, Any] = {}

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def create(self, new: NewTrajectory) -> Trajectory:
        if new.uid in self._rows:
            raise ConflictError(f"{new.uid} is known already", code="uid_taken")
        row = Trajectory(
            uid=new.uid,
            kind=new.kind,
            prompt_uid=new.prompt_uid,
            channel=new.channel,
            channel_fixed=False,
            state="open",
            metadata=new.metadata,
            options=new.options,
            created_at=new.created_at,
            completed_at=None,
            calls=0,
            version=0,
        )
        self._rows[new.uid], self._calls[new.uid], self._blobs[new.uid] = row, [], {}
        return row

    async def find(self, uid: str) -> Trajectory | None:
        return self._rows.get(uid)

    async def append(self, uid: str, drafts: Sequence[Draft], blobs: Mapping[bytes, bytes]) -> Appended:
        calls = self._calls.get(uid)
        if calls is None:
            raise ConflictError(f"the session {uid} was ended meanwhile", code="session_deleted")
        new = [
            Call(record=draft, seq=seq, step_index=seq, hash=b"") for seq, draft in enumerate(drafts, start=len(calls))
        ]
        calls.extend(new)
        kept = self._blobs[uid]
        kept.update({draft.extras_digest: blobs[draft.extras_digest] for draft in drafts if draft.extras_digest})
        row = self._rows[uid]
        self._rows[uid] = row = _replaced(row, calls=len(calls), version=row.version + len(new))
        return Appended(calls=new, version=row.version, stamp=row.version)

    async def delete(self, uid: str) -> None:
        if self._rows.pop(uid, None) is None:
            raise NotFoundError(f"no session {uid}", code="session_unknown")
        del self._calls[uid], self._blobs[uid]

    async def calls(self, uid: str) -> list[Call]:
        return self.calls_now(uid)

    def calls_now(self, uid: str) -> list[Call]:
        """The same at once; [] for what is not known."""
        return list(self._calls.get(uid, ()))

    async def extras(self, uid: str, seqs: Sequence[int]) -> dict[int, bytes]:
        calls, kept = self._calls.get(uid, []), self._blobs.get(uid, {})
        found = {seq: kept.get(calls[seq].record.extras_digest) for seq in seqs if seq < len(calls)}
        return {seq: content for seq, content in found.items() if content is not None}

    async def sessions(self, kind: Kind | None = None) -> list[Trajectory]:
        return [row for row in self._rows.values() if kind in (None, row.kind)]

    async def stamp(self, uid: str) -> int:
        row = self._rows.get(uid)
        return 0 if row is None else row.version

    async def state(self) -> dict[str, Any]:
        return dict(self._state)

    async def set_state(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        self._state = {name: value for name, value in (self._state | dict(changes)).items() if value is not None}
        return dict(self._state)


def _replaced(row: Trajectory, **changes: Any) -> Trajectory:
    return msgspec.structs.replace(row, **changes)
