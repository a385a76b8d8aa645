"""`/submit_steps`: a batch is stored whole or not at all, and the same step twice is stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from moorage.capture.call import Draft, Extras
from moorage.capture.chain import digest, encode_record, next_hash
from moorage.capture.packing import common_prefix
from moorage.errors import UsageError
from moorage.pool.contract import NewTrajectory, Submitted, SubmittedStep
from moorage.pool.faults import deleted, step_conflict, trajectory_complete
from moorage.pool.sql.appending import INTEGERS, last_call
from moorage.pool.sql.records import Prompts
from moorage.pool.sql.trajectories import Kept, complete_now, create, find, fix, note_step
from moorage.pool.sql.transaction import Transaction

__all__ = ["content_digest", "submit"]

_PATHS = 256
_PATH_BYTES = 1 << 20
"""Longer ones are read again rather than remembered."""


class _Place:
    """Where a trajectory stands in the middle of a batch."""

    __slots__ = ("completes_at", "hash", "kept", "model_calls", "seq", "top_step")

    def __init__(self, kept: Kept, seq: int, latest_step: int, chained: bytes, *, model_calls: bool) -> None:
        self.kept = kept
        self.seq = seq
        self.hash = chained
        self.top_step = max(kept.top_step, latest_step)
        self.model_calls = model_calls
        self.completes_at: int | None = None


def submit(transaction: Transaction, steps: Sequence[SubmittedStep], channel: str | None) -> Submitted:
    """Raises ConflictError (other content, channel or prompt; complete; deleted); then nothing of it may be kept."""
    places: dict[str, _Place] = {}
    duplicates = 0
    for step in steps:
        if step.step_index not in INTEGERS or step.policy_version not in INTEGERS:
            raise UsageError("step_index and policy_version must fit in 64 bits", code="out_of_range")
        place = places.get(step.trajectory_uid)
        if place is None:
            place = places[step.trajectory_uid] = _enter(transaction, step.trajectory_uid)
        place.kept = fix(transaction, place.kept, channel, step.prompt_uid)
        if _is_stored(transaction, place, step):
            duplicates += 1
        else:
            _store(transaction, place, step)
    for place in places.values():
        if place.completes_at is not None:
            complete_now(transaction, place.kept)
    return Submitted(accepted=len(steps), duplicates=duplicates)


def content_digest(step: SubmittedStep) -> bytes:
    """[16] of what was submitted, so that completion and rewards do not make a repeat look different.

    The prompt_uid is left out: the trajectory has one, and another is refused before.
    """
    said = (
        step.reward,
        step.policy_version,
        step.is_last,
        step.metadata,
        step.multi_modal_data,
        step.routed_experts,
        len(step.prompt_ids),
        step.rollout_log_probs is None,
    )
    hasher = hashlib.blake2b(msgspec.json.encode(said, order="sorted"), digest_size=16)
    for packed in (step.prompt_ids, step.response_ids, step.rollout_log_probs or b""):
        hasher.update(packed)
    return hasher.digest()


def _enter(transaction: Transaction, uid: str) -> _Place:
    kept = find(transaction.db, uid)
    if kept is None:
        kept = create(transaction, NewTrajectory(uid=uid, kind="trajectory", created_at=transaction.now))
    if kept.state == "deleted":
        raise deleted(uid)
    seq, latest_step, chained = last_call(transaction, kept.id)
    submitted = transaction.execute(
        "SELECT count(*) FROM calls WHERE trajectory = ? AND content IS NOT NULL", (kept.id,)
    ).fetchone()[0]
    return _Place(kept, seq, latest_step, chained, model_calls=seq > submitted)


def _is_stored(transaction: Transaction, place: _Place, step: SubmittedStep) -> bool:
    """Raises ConflictError when other content is stored under this index, a model call's too."""
    transaction.flush()
    values = (place.kept.id, step.step_index)
    row = transaction.execute(
        "SELECT content FROM calls WHERE trajectory = ? AND step_index = ? AND content IS NOT NULL", values
    ).fetchone()
    if row is None and place.model_calls:
        row = transaction.execute(
            "SELECT content FROM calls WHERE trajectory = ? AND step_index = ?", values
        ).fetchone()
    if row is None:
        return False
    if row[0] != content_digest(step):
        raise step_conflict(step.trajectory_uid, step.step_index)
    return True


def _store(transaction: Transaction, place: _Place, step: SubmittedStep) -> None:
    kept = place.kept
    if kept.state == "complete" or (place.completes_at is not None and step.step_index > place.completes_at):
        raise trajectory_complete(kept.uid)
    draft, extras, metadata = _draft(transaction, place, step)
    record = encode_record(draft)
    chained = next_hash(place.hash, place.seq, record)
    transaction.add_call(
        kept.id,
        place.seq,
        step.step_index,
        flags=0,
        policy_version=step.policy_version,
        chained=chained,
        record=record,
        reward=step.reward,
        content=content_digest(step),
        extras=extras,
    )
    if metadata:
        transaction.add_blob(draft.metadata_digest, metadata)
    _remember(transaction, place, step)
    place.top_step = max(place.top_step, step.step_index)
    note_step(transaction, kept, place.top_step)
    place.seq += 1
    place.hash = chained
    if step.is_last:
        place.completes_at = max(step.step_index, place.completes_at or 0)


def _draft(transaction: Transaction, place: _Place, step: SubmittedStep) -> tuple[Draft, bytes | None, bytes | None]:
    """The step as a draft whose prompt continues the step before, its extras, its metadata."""
    before = _path_before(transaction, place)
    keep = common_prefix(before, step.prompt_ids)
    whole = keep * 4 == len(before)
    extras = metadata = None
    if step.multi_modal_data is not None or step.routed_experts is not None:
        extras = msgspec.json.encode(
            Extras(
                multi_modal_data=msgspec.Raw(msgspec.json.encode(step.multi_modal_data)),
                routed_experts=msgspec.Raw(msgspec.json.encode(step.routed_experts)),
            )
        )
    if step.metadata:
        metadata = msgspec.json.encode(step.metadata)
    identity = transaction.make_id()
    draft = Draft(
        call_id=identity,
        request_id=identity,
        choice=0,
        session_id=step.trajectory_uid,
        parent=place.seq - 1 if keep else None,
        keep=keep,
        delta=step.prompt_ids[keep * 4 :],
        completion=step.response_ids,
        logprobs=step.rollout_log_probs,
        finish_reason="",
        stop_token=False,
        source="submitted",
        verdict=("exact" if whole else "branch") if keep else "root",
        reason=None if whole or not keep else "engine_rendered",
        policy_version=step.policy_version,
        metadata_digest=digest(metadata) if metadata else b"",
        extras_digest=digest(extras) if extras else b"",
        created_at=transaction.now,
        step_index=step.step_index,
    )
    return draft, extras, metadata


def _path_before(transaction: Transaction, place: _Place) -> bytes:
    """[N] uint32: prompt and completion of the call before; empty for the first."""
    if place.seq == 0:
        return b""
    known = transaction.knowledge.paths.get(place.kept.id)
    if known is not None and known[0] == place.seq - 1:
        return known[1]
    return Prompts(transaction.db, place.kept.id).prefix(place.seq - 1)


def _remember(transaction: Transaction, place: _Place, step: SubmittedStep) -> None:
    paths = transaction.knowledge.paths
    paths.pop(place.kept.id, None)
    if len(step.prompt_ids) + len(step.response_ids) > _PATH_BYTES:
        return
    if len(paths) >= _PATHS:
        paths.pop(next(iter(paths)))
    paths[place.kept.id] = (place.seq, step.prompt_ids + step.response_ids)
