"""Calls as trainers read them: whole prompts, metadata, and the parts that only some steps have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from moorage.capture.call import Call, Extras
from moorage.pool.contract import Lease, PackedStep
from moorage.pool.marks import is_marked
from moorage.pool.sql.connection import Connection
from moorage.pool.sql.leasing import Taken
from moorage.pool.sql.marking import marks_of, marks_of_all
from moorage.pool.sql.records import Prompts, read_calls, unpack
from moorage.pool.sql.trajectories import KEPT, Kept, current_reward
from moorage.pool.unpacking import unpacked

__all__ = ["StepMaker", "leased"]

_AHEAD = 16
_RARE = (b'"multi_modal_data"', b'"routed_experts"')


class StepMaker:
    """Steps of one trajectory."""

    def __init__(self, db: Connection, kept: Kept, blobs: dict[bytes, bytes]) -> None:
        """`blobs`: metadata that was read already, shared by the makers of one reply."""
        self._db = db
        self._kept = kept
        self._blobs = blobs
        self._prompts = Prompts(db, kept.id)
        self._ahead: dict[int, bytes] = {}
        """Extras of the next calls by seq, unpacked."""

    def look_ahead(self, calls: Sequence[Call]) -> None:
        """The steps of these calls are wanted next: read in one statement what each would ask for."""
        seqs = [call.seq for call in calls if call.record.extras_digest]
        if not seqs:
            self._ahead = {}
            return
        seqs += seqs[-1:] * (_AHEAD - len(seqs))
        rows = self._db.execute(
            "SELECT c.seq, e.data FROM calls c JOIN extras e ON e.call = c.id"  # noqa: S608
            f" WHERE c.trajectory = ? AND c.seq IN ({', '.join('?' * len(seqs))})",
            (self._kept.id, *seqs),
        ).fetchall()
        self._ahead = {seq: unpack(data) for seq, data in rows}

    def step(self, call: Call, *, shown: bool) -> PackedStep:
        """`shown`: with its marks, as `/pool/steps` has them."""
        self._prompts.know(call)
        draft = call.record
        rare = self._rare(call)
        return PackedStep(
            trajectory_uid=self._kept.uid,
            prompt_uid=self._kept.prompt_uid,
            step_index=call.step_index,
            prompt_ids=self._prompts.prompt(draft),
            response_ids=draft.completion,
            rollout_log_probs=draft.logprobs,
            reward=call.reward,
            policy_version=draft.policy_version,
            is_last=call.is_last,
            metadata=self._metadata(draft.metadata_digest),
            multi_modal_data=_given(rare, "multi_modal_data"),
            routed_experts=_given(rare, "routed_experts"),
            channel=str(self._kept.channel),
            late=call.late,
            delivered=draft.delivered,
            marks=marks_of(self._db, self._kept.id, call.step_index) if shown else b"{}",
        )

    def _metadata(self, digest: bytes) -> bytes:
        """JSON."""
        if not digest:
            return b"{}"
        if digest not in self._blobs:
            row = self._db.execute("SELECT data FROM blobs WHERE digest = ?", (digest,)).fetchone()
            self._blobs[digest] = b"{}" if row is None else unpack(row[0])
        return self._blobs[digest]

    def _rare(self, call: Call) -> Extras | None:
        if not call.record.extras_digest:
            return None
        if call.seq not in self._ahead:
            self.look_ahead([call])
        content = self._ahead.get(call.seq, b"")
        return msgspec.json.decode(content, type=Extras) if any(name in content for name in _RARE) else None


def leased(db: Connection, taken: Taken, marks: Mapping[str, Any], *, packed: bool) -> Lease:
    """A lease with its trajectories and those of their steps that are marked like that.

    A trajectory of which no step is left is handed out with none, as one that never had any.
    """
    rows = db.execute(
        f"SELECT {KEPT} FROM trajectories t WHERE t.round_id = ? ORDER BY t.uid",  # noqa: S608
        (taken.round_id,),
    ).fetchall()
    blobs: dict[bytes, bytes] = {}
    runs = []
    for row in rows:
        kept = Kept(*row)
        steps = _steps(db, kept, marks, blobs)
        runs.append(
            {
                "trajectory_uid": kept.uid,
                "reward": current_reward(db, kept),
                "metadata": msgspec.json.decode(kept.metadata),
                "steps": steps if packed else [unpacked(step, shown=False) for step in steps],
            }
        )
    return Lease(
        lease_id=taken.lease_id,
        channel=taken.channel,
        prompt_uid=taken.prompt_uid,
        attempt=taken.attempt,
        expires_at=taken.expires_at,
        trajectories=runs,
    )


def _steps(db: Connection, kept: Kept, marks: Mapping[str, Any], blobs: dict[bytes, bytes]) -> list[PackedStep]:
    calls = read_calls(db, kept.id, kept.last_seq, kept.reward)
    maker = StepMaker(db, kept, blobs)
    # Placeholders of an engine without token ids are nothing to train on.
    given = [call for call in calls if not call.late and call.record.delivered and call.record.source != "dummy"]
    if marks:
        marked = marks_of_all(db, kept.id)
        given = [call for call in given if is_marked(marked.get(call.step_index, {}), marks)]
    given.sort(key=lambda call: call.step_index)
    steps = []
    for start in range(0, len(given), _AHEAD):
        some = given[start : start + _AHEAD]
        maker.look_ahead(some)
        steps += [maker.step(call, shown=False) for call in some]
    return steps


def _given(extras: Extras | None, name: str) -> bytes | None:
    """The part as JSON; None when the step has none."""
    raw = b"null" if extras is None else bytes(getattr(extras, name))
    return None if raw == b"null" else raw
