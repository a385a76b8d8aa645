"""Rounds are leased, acked, given back, and fall due. What each means is decided in `moorage.pool.groups`."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

import msgspec

from moorage.pool.contract import LeaseAsk
from moorage.pool.faults import lease_lost, unknown_lease
from moorage.pool.groups import LeaseState, after_delivery, is_ready, is_stale, may_ack, may_nack
from moorage.pool.sql.tallies import of_round
from moorage.pool.sql.trajectories import count_group
from moorage.pool.sql.transaction import Transaction

__all__ = ["Taken", "ack", "lease", "nack", "next_deadline", "sweep"]

_AT_ONCE = 100


class Taken(msgspec.Struct):
    """A lease as it was committed; its trajectories are read afterwards."""

    lease_id: str
    channel: str
    prompt_uid: str
    attempt: int
    expires_at: float
    round_id: int


class _Candidate(msgspec.Struct, order=True):
    """In the order of delivery: by group, a frozen round before what gathers for the next."""

    group_id: int
    fresh: bool
    round_id: int
    prompt_uid: str
    size: int
    oldest_policy: int | None
    attempts: int


class _Lent(msgspec.Struct):
    lease_id: str
    state: LeaseState
    consumer: str | None
    round_id: int
    round_state: str
    round_lease_id: str
    attempts: int
    size: int
    channel: str
    prompt_uid: str


def lease(transaction: Transaction, ask: LeaseAsk) -> tuple[list[Taken], int]:
    """Up to `max_groups` ready rounds, oldest group first, and how many were passed over as stale."""
    sweep(transaction)
    taken: list[Taken] = []
    stale = 0
    for candidate in heapq.merge(_waiting(transaction, ask), _fresh(transaction, ask)):
        if len(taken) == ask.max_groups:
            break
        if is_stale(candidate.oldest_policy, ask.min_policy_version):
            stale += 1
        elif candidate.fresh:
            taken.append(_freeze(transaction, ask, candidate))
        else:
            taken.append(_deliver(transaction, ask, candidate))
    return taken, stale


def ack(transaction: Transaction, lease_ids: Sequence[str]) -> int:
    """Raises NotFoundError, ConflictError `lease_lost`."""
    for lent in _lent(transaction, lease_ids, may_ack):
        if lent.state == "acked":
            continue
        transaction.execute("UPDATE leases SET state = 'acked' WHERE lease_id = ?", (lent.lease_id,))
        transaction.execute("UPDATE rounds SET state = 'acked' WHERE id = ?", (lent.round_id,))
        transaction.tallies.move(lent.channel, of_round(lent.round_state, lent.size), of_round("acked", 0))
        _event(transaction, "ack", lent)
    return len(lease_ids)


def nack(transaction: Transaction, lease_ids: Sequence[str], delay_s: float, drop: bool, reason: str | None) -> int:
    """Raises NotFoundError, ConflictError `lease_lost`."""
    for lent in _lent(transaction, lease_ids, may_nack):
        transaction.execute(
            "UPDATE leases SET state = 'nacked', reason = ? WHERE lease_id = ?", (reason, lent.lease_id)
        )
        _event(transaction, "nack", lent)
        if lent.round_state != "dropped":
            _end_delivery(transaction, lent, not_before=transaction.now + delay_s, drop=drop)
    return len(lease_ids)


def sweep(transaction: Transaction) -> None:
    """Leases that are over by now: their rounds wait again, or are dropped."""
    transaction.look_ahead = True
    due = transaction.execute(
        "SELECT lease_id FROM rounds WHERE state = 'leased' AND expires_at <= ? ORDER BY expires_at, id",
        (transaction.now,),
    ).fetchall()
    for (lease_id,) in due:
        lent = _find(transaction, lease_id)
        transaction.execute("UPDATE leases SET state = 'expired' WHERE lease_id = ?", (lease_id,))
        _event(transaction, "expire", lent)
        _end_delivery(transaction, lent, not_before=transaction.now, drop=False)


def next_deadline(transaction: Transaction) -> float | None:
    """When the next lease expires or the next delay ends, of all processes' leases."""
    row = transaction.execute(
        "SELECT min(at) FROM (SELECT min(expires_at) AS at FROM rounds WHERE state = 'leased'"
        " UNION ALL SELECT min(not_before) FROM rounds WHERE state = 'waiting' AND not_before > ?) AS deadlines",
        (transaction.now,),
    ).fetchone()
    return None if row is None else row[0]


def _waiting(transaction: Transaction, ask: LeaseAsk) -> Iterator[_Candidate]:
    """Rounds to be delivered again."""
    rows = transaction.execute(
        "SELECT r.group_id, r.id, g.prompt_uid, r.size, r.oldest_policy, r.attempts FROM rounds r"
        " JOIN groups g ON g.id = r.group_id WHERE r.state = 'waiting' AND g.channel = ? AND r.not_before <= ?"
        " ORDER BY r.group_id, r.id",
        (ask.channel, transaction.now),
    ).fetchall()
    for group_id, round_id, prompt_uid, size, oldest, attempts in rows:
        if is_ready(size, ask.n_rollouts):
            yield _Candidate(group_id, False, round_id, prompt_uid, size, oldest, attempts)


def _fresh(transaction: Transaction, ask: LeaseAsk) -> Iterator[_Candidate]:
    """Groups with complete trajectories that no lease has taken."""
    after = 0
    while True:
        # A few at a time: whoever wants one group does not read all that are ready.
        rows = transaction.execute(
            "SELECT id, prompt_uid, waiting, oldest_policy FROM groups"
            " WHERE channel = ? AND waiting > 0 AND id > ? ORDER BY id LIMIT ?",
            (ask.channel, after, _AT_ONCE),
        ).fetchall()
        for group_id, prompt_uid, complete, oldest in rows:
            if is_ready(complete, ask.n_rollouts):
                yield _Candidate(group_id, True, 0, prompt_uid, complete, oldest, 0)
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1][0]


def _freeze(transaction: Transaction, ask: LeaseAsk, candidate: _Candidate) -> Taken:
    """All of the group that is complete now becomes a round."""
    taken = _taken(transaction, ask, candidate)
    taken.round_id = transaction.add(
        "INSERT INTO rounds (group_id, state, size, oldest_policy, attempts, lease_id, expires_at, not_before)"
        " VALUES (?, 'leased', ?, ?, 1, ?, ?, 0)",
        (candidate.group_id, candidate.size, candidate.oldest_policy, taken.lease_id, taken.expires_at),
    )
    which = "WHERE group_id = ? AND round_id IS NULL AND state = 'complete'"
    frozen = transaction.execute(f"SELECT uid FROM trajectories {which}", (candidate.group_id,)).fetchall()  # noqa: S608
    transaction.execute(
        f"UPDATE trajectories SET round_id = ?, version = version + 1 {which}",  # noqa: S608
        (taken.round_id, candidate.group_id),
    )
    count_group(transaction, candidate.group_id)
    transaction.tallies.add(ask.channel, "leased", 1)
    for (uid,) in frozen:
        transaction.wrote(uid)
    _record(transaction, ask, taken)
    return taken


def _deliver(transaction: Transaction, ask: LeaseAsk, candidate: _Candidate) -> Taken:
    """A frozen round once more; whoever had it before has lost it."""
    taken = _taken(transaction, ask, candidate)
    transaction.execute(
        "UPDATE leases SET state = 'lost' WHERE state = 'expired' AND lease_id ="
        " (SELECT lease_id FROM rounds WHERE id = ?)",
        (taken.round_id,),
    )
    transaction.execute(
        "UPDATE rounds SET state = 'leased', attempts = ?, lease_id = ?, expires_at = ? WHERE id = ?",
        (taken.attempt, taken.lease_id, taken.expires_at, taken.round_id),
    )
    transaction.tallies.move(ask.channel, of_round("waiting", candidate.size), of_round("leased", 0))
    _record(transaction, ask, taken)
    return taken


def _taken(transaction: Transaction, ask: LeaseAsk, candidate: _Candidate) -> Taken:
    return Taken(
        lease_id=transaction.make_id(),
        channel=ask.channel,
        prompt_uid=candidate.prompt_uid,
        attempt=candidate.attempts + 1,
        expires_at=transaction.now + ask.lease_s,
        round_id=candidate.round_id,
    )


def _record(transaction: Transaction, ask: LeaseAsk, taken: Taken) -> None:
    transaction.execute(
        "INSERT INTO leases VALUES (?, ?, ?, 'out', ?, NULL)",
        (taken.lease_id, taken.round_id, taken.attempt, ask.consumer),
    )
    transaction.event(
        "lease", taken.channel, prompt_uid=taken.prompt_uid, lease_id=taken.lease_id, consumer=ask.consumer
    )


def _lent(transaction: Transaction, lease_ids: Sequence[str], allowed: Callable[[LeaseState], bool]) -> Iterator[_Lent]:
    """All of them are looked at before the first is touched; each is read again then, for it may be named twice."""
    sweep(transaction)
    for lease_id in lease_ids:
        lent = _find(transaction, lease_id)
        if not allowed(lent.state) or (lent.state != "acked" and lent.round_lease_id != lease_id):
            raise lease_lost(lease_id)
    return (_find(transaction, lease_id) for lease_id in lease_ids)


def _find(transaction: Transaction, lease_id: str) -> _Lent:
    row = transaction.execute(
        "SELECT l.lease_id, l.state, l.consumer, r.id, r.state, r.lease_id, r.attempts, r.size, g.channel, g.prompt_uid"
        " FROM leases l JOIN rounds r ON r.id = l.round_id JOIN groups g ON g.id = r.group_id WHERE l.lease_id = ?",
        (lease_id,),
    ).fetchone()
    if row is None:
        raise unknown_lease(lease_id)
    return _Lent(*row)


def _end_delivery(transaction: Transaction, lent: _Lent, *, not_before: float, drop: bool) -> None:
    state = after_delivery(lent.attempts, transaction.max_attempts, drop=drop)
    transaction.execute("UPDATE rounds SET state = ?, not_before = ? WHERE id = ?", (state, not_before, lent.round_id))
    transaction.tallies.move(lent.channel, of_round(lent.round_state, lent.size), of_round(state, lent.size))
    if state == "dropped":
        _event(transaction, "drop", lent)
        return
    transaction.group_changed = True


def _event(transaction: Transaction, kind: str, lent: _Lent) -> None:
    transaction.event(kind, lent.channel, prompt_uid=lent.prompt_uid, lease_id=lent.lease_id, consumer=lent.consumer)
