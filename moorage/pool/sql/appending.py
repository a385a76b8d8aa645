"""Committing the choices of one model call: the path every request takes, so it runs no statement but the inserts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moorage.capture.call import Call, Draft
from moorage.capture.chain import GENESIS, encode_record, next_hash
from moorage.errors import UsageError
from moorage.pool.contract import Appended
from moorage.pool.faults import deleted
from moorage.pool.sql.connection import Connection, Rows
from moorage.pool.sql.records import LATE, UNDELIVERED
from moorage.pool.sql.trajectories import Kept, fix, need
from moorage.pool.sql.transaction import Head, Transaction, stamp_of

__all__ = ["INTEGERS", "append", "ask_heads", "encode", "last_call", "learn_heads", "look_up"]

INTEGERS = range(-(2**63), 2**63)
"""What a column can hold."""

_AT_ONCE = 64


def encode(draft: Draft) -> bytes:
    """Its record, made before it is queued. Raises UsageError for a number that no column holds."""
    if draft.policy_version not in INTEGERS:
        raise UsageError("policy_version must fit in 64 bits", code="out_of_range")
    return encode_record(draft)


def look_up(transaction: Transaction, uids: Sequence[str]) -> None:
    """Learn in one statement where the next calls of several trajectories go."""
    knowledge = transaction.knowledge
    heads, epoch = knowledge.heads, knowledge.epoch
    unknown = [
        uid for uid in uids if ((head := heads.get(uid)) is None or head.epoch != epoch) and knowledge.head(uid) is None
    ]
    if unknown:
        learn_heads(transaction, ask_heads(transaction.db, unknown))


def ask_heads(db: Connection, uids: Sequence[str]) -> list[Rows]:
    """For `learn_heads`; nothing is fetched yet."""
    asked = []
    unknown = list(dict.fromkeys(uids))
    for start in range(0, len(unknown), _AT_ONCE):
        some = unknown[start : start + _AT_ONCE]
        some += some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))  # few statements, whatever their number
        rows = db.execute(
            "SELECT t.uid, t.id, t.state, t.version, t.top_step, c.seq, c.step_index, c.hash FROM trajectories t"  # noqa: S608
            " LEFT JOIN calls c ON c.trajectory = t.id"
            " AND c.seq = (SELECT max(d.seq) FROM calls d WHERE d.trajectory = t.id)"
            f" WHERE t.channel_fixed = 1 AND t.uid IN ({', '.join('?' * len(some))})",
            some,
        )
        asked.append(rows)
    return asked


def learn_heads(transaction: Transaction, asked: Sequence[Rows]) -> None:
    """Of those that may take calls and whose channel is fixed; what the others get, `append` says."""
    for rows in asked:
        for uid, trajectory, state, version, top_step, seq, step_index, chained in rows.fetchall():
            if state == "deleted":
                continue
            head = Head(
                trajectory,
                seq=0 if seq is None else seq + 1,
                step_index=max(top_step, -1 if seq is None else step_index) + 1,
                chained=GENESIS if seq is None else chained,
                late=state == "complete",
                row_version=version,
            )
            transaction.knowledge.learn(uid, head)


def append(
    transaction: Transaction,
    uid: str,
    drafts: Sequence[Draft],
    records: Sequence[bytes],
    blobs: Mapping[bytes, bytes],
) -> Appended:
    """Gather the rows of all choices. Raises NotFoundError, ConflictError (deleted); then nothing was gathered."""
    head = transaction.knowledge.heads.get(uid)  # what is there was looked at: see `look_up`
    if head is None:
        head = _head(transaction, uid)
        transaction.knowledge.learn(uid, head)
    calls = [_add(transaction, head, draft, record, blobs) for draft, record in zip(drafts, records, strict=True)]
    version = head.row_version + head.seq
    if transaction.stamp is not None:
        head.stamp = transaction.stamp
        transaction.slots.add(head.slot)
        return Appended(calls=calls, version=version, stamp=head.stamp)
    return Appended(calls=calls, version=version, stamp=stamp_of(head.trajectory, version))


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
    """From the database, where all its calls are: the first step also fixes the trajectory's channel and prompt_uid."""
    kept: Kept = need(transaction, uid)
    if kept.state == "deleted":
        raise deleted(uid)
    if not kept.channel_fixed:
        kept = fix(transaction, kept)
    transaction.flush()
    seq, latest_step, chained = last_call(transaction, kept.id)
    return Head(
        kept.id,
        seq=seq,
        step_index=max(latest_step, kept.top_step) + 1,
        chained=chained,
        late=kept.state == "complete",
        row_version=kept.version,
    )
