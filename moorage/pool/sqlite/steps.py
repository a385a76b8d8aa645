"""Calls as trainers read them: whole prompts, metadata, and the parts that only some steps have."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from moorage.capture.call import Call, Extras
from moorage.capture.packing import unpack_floats, unpack_ids
from moorage.pool.contract import Lease, Step
from moorage.pool.sqlite.leasing import Taken
from moorage.pool.sqlite.marking import marks_of
from moorage.pool.sqlite.records import Prompts, read_calls, unpack
from moorage.pool.sqlite.trajectories import KEPT, Kept, current_reward

__all__ = ["StepMaker", "leased"]

_RARE = (b'"multi_modal_data"', b'"routed_experts"')


class StepMaker:
    """Steps of one trajectory."""

    def __init__(self, db: sqlite3.Connection, kept: Kept, blobs: dict[bytes, Any]) -> None:
        """`blobs`: metadata that was read already, shared by the makers of one reply."""
        self._db = db
        self._kept = kept
        self._blobs = blobs
        self._prompts = Prompts(db, kept.id)

    def step(self, call: Call, *, shown: bool = False) -> Step:
        """`shown`: with channel, late and delivered, as `/pool/steps` has them."""
        self._prompts.know(call)
        draft = call.record
        rare = self._rare(call)
        return Step(
            trajectory_uid=self._kept.uid,
            prompt_uid=self._kept.prompt_uid,
            step_index=call.step_index,
            prompt_ids=unpack_ids(self._prompts.prompt(draft)),
            response_ids=unpack_ids(draft.completion),
            rollout_log_probs=None if draft.logprobs is None else unpack_floats(draft.logprobs),
            reward=call.reward,
            policy_version=draft.policy_version,
            is_last=call.is_last,
            metadata=self._metadata(draft.metadata_digest),
            multi_modal_data=_given(rare, "multi_modal_data"),
            routed_experts=_given(rare, "routed_experts"),
            channel=str(self._kept.channel) if shown else msgspec.UNSET,
            late=call.late if shown else msgspec.UNSET,
            delivered=draft.delivered if shown else msgspec.UNSET,
            marks=(marks_of(self._db, self._kept.id, call.step_index) if shown else {}) or msgspec.UNSET,
        )

    def _metadata(self, digest: bytes) -> dict[str, Any]:
        if not digest:
            return {}
        if digest not in self._blobs:
            row = self._db.execute("SELECT data FROM blobs WHERE digest = ?", (digest,)).fetchone()
            self._blobs[digest] = {} if row is None else msgspec.json.decode(unpack(row[0]))
        return self._blobs[digest]  # type: ignore[no-any-return]

    def _rare(self, call: Call) -> Extras | None:
        if not call.record.extras_digest:
            return None
        row = self._db.execute(
            "SELECT e.data FROM calls c JOIN extras e ON e.call = c.id WHERE c.trajectory = ? AND c.seq = ?",
            (self._kept.id, call.seq),
        ).fetchone()
        content = b"" if row is None else unpack(row[0])
        return msgspec.json.decode(content, type=Extras) if any(name in content for name in _RARE) else None


def leased(db: sqlite3.Connection, taken: Taken) -> Lease:
    """A lease with its trajectories and their steps."""
    rows = db.execute(
        f"SELECT {KEPT} FROM trajectories t WHERE t.round_id = ? ORDER BY t.uid",  # noqa: S608
        (taken.round_id,),
    ).fetchall()
    blobs: dict[bytes, Any] = {}
    return Lease(
        lease_id=taken.lease_id,
        channel=taken.channel,
        prompt_uid=taken.prompt_uid,
        attempt=taken.attempt,
        expires_at=taken.expires_at,
        trajectories=[_trajectory(db, Kept(*row), blobs) for row in rows],
    )


def _trajectory(db: sqlite3.Connection, kept: Kept, blobs: dict[bytes, Any]) -> dict[str, Any]:
    calls = read_calls(db, kept.id, kept.last_seq, kept.reward)
    maker = StepMaker(db, kept, blobs)
    given = [call for call in calls if not call.late and call.record.delivered]
    return {
        "trajectory_uid": kept.uid,
        "reward": current_reward(db, kept),
        "metadata": msgspec.json.decode(kept.metadata),
        "steps": [maker.step(call) for call in sorted(given, key=lambda call: call.step_index)],
    }


def _given(extras: Extras | None, name: str) -> Any:
    """The part as JSON values; UNSET when the step has none."""
    raw: msgspec.Raw = msgspec.Raw(b"null") if extras is None else getattr(extras, name)
    value = msgspec.json.decode(raw)
    return msgspec.UNSET if value is None else value
