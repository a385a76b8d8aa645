"""Committing the choices of one model call: the path every request takes, so it runs no statement but the inserts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moorage.capture.call import Call, Draft
from moorage.capture.chain import GENESIS, encode_record, next_hash
from moorage.errors import UsageError
from moorage.pool.contract import Appended
from moorage.pool.faults import deleted
from moorage.pool.sqlite.records import LATE, UNDELIVERED
from moorage.pool.sqlite.trajectories import Kept, fix, need
from moorage.pool.sqlite.transaction import Head, Transaction

__all__ = ["INTEGERS", "append", "encode", "last_call"]

INTEGERS = range(-(2**63), 2**63)
"""What a column can hold."""


def encode(draft: Draft) -> bytes:
    """Its record, made before it is queued. Raises UsageError for a number that no column holds."""
    if draft.policy_version not in INTEGERS:
        raise UsageError("policy_version must fit in 64 bits", code="out_of_range")
    return encode_record(draft)


def append(
    transaction: Transaction,
    uid: str,
    drafts: Sequence[Draft],
    records: Sequence[bytes],
    blobs: Mapping[bytes, bytes],
) -> Appended:
    """Gather the rows of all choices. Raises NotFoundError, ConflictError (deleted); then nothing was gathered."""
    head = transaction.knowledge.heads.get(uid)
    if head is None:
        head = transaction.knowledge.heads[uid] = _head(transaction, uid)
    calls = [_add(transaction, head, draft, record, blobs) for draft, record in zip(drafts, records, strict=True)]
    return Appended(calls=calls, version=head.row_version + head.seq)


def last_call(transaction: Transaction, trajectory: int) -> tuple[int, int, bytes]:
    """The next `seq`, the latest call's `step_index` and its hash."""
    row = transaction.execute(
        "SELECT seq, step_index, hash FROM calls WHERE trajectory = ? ORDER BY seq DESC LIMIT 1", (trajectory,)
    ).fetchone()
    return (0, -1, GENESIS) if row is None else (row[0] + 1, row[1], row[2])


def _add(transaction: Transaction, head: Head, draft: Draft, record: bytes, blobs: Mapping[bytes, bytes]) -> Call:
    chained = next_hash(head.hash, head.seq, record)
    flags = (LATE if head.late else 0) | (0 if draft.delivered else UNDELIVERED)
    transaction.add_call(
        head.trajectory,
        head.seq,
        head.step_index,
        flags=flags,
        policy_version=draft.policy_version,
        chained=chained,
        record=record,
        extras=blobs.get(draft.extras_digest),
    )
    for digest in (draft.sampling_digest, draft.metadata_digest, draft.tools_digest, draft.template_digest):
        if digest and digest in blobs:
            transaction.add_blob(digest, blobs[digest])
    call = Call(record=draft, seq=head.seq, step_index=head.step_index, hash=chained, late=head.late)
    head.hash = chained
    head.seq += 1
    head.step_index += 1
    return call


def _head(transaction: Transaction, uid: str) -> Head:
    """From the file, where all its calls are: the first step also fixes the trajectory's channel and prompt_uid."""
    kept: Kept = need(transaction, uid)
    if kept.state == "deleted":
        raise deleted(uid)
    if not kept.channel_fixed:
        kept = fix(transaction, kept)
    seq, latest_step, chained = last_call(transaction, kept.id)
    return Head(
        kept.id,
        seq=seq,
        step_index=max(latest_step, kept.top_step) + 1,
        chained=chained,
        late=kept.state == "complete",
        row_version=kept.version,
    )
