"""The hash chain over the very bytes, and which of two neighbours a break in it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.capture.chain import GENESIS, next_hash
from moorage.pool.archive import KeptCall
from moorage.traces.verifying.faults import Findings

__all__ = ["check_chain"]


def check_chain(uid: str, calls: Sequence[KeptCall], findings: Findings) -> None:
    """That each hash covers the one before it, its call's place and its record; that no `seq` is missing or twice.

    After a break the chain is taken up again, so that one flipped byte is one fault and the next one is seen too.
    """
    previous = GENESIS
    for place, call in enumerate(calls):
        before = calls[place - 1].seq + 1 if place else 0
        if call.seq != before:
            findings.fault(uid, call.seq, "seq", f"{_missing(before, call.seq)} before it")
        if call.record is None:
            findings.fault(uid, call.seq, "record", call.broken.get("record", "it is missing"))
            previous = call.hash
            continue
        computed = next_hash(previous, call.seq, call.record)
        if computed == call.hash:
            previous = computed
            continue
        following = calls[place + 1] if place + 1 < len(calls) else None
        field, previous = _origin(call, computed, following)
        findings.fault(uid, call.seq, field, _SAID[field])


_SAID = {
    "record": "its bytes are not those that its hash was made of",
    "hash": "it is not that of the record, which the next call confirms",
    "record or hash": "they do not belong together, and no call comes after that tells which of them was changed",
}


def _origin(call: KeptCall, computed: bytes, following: KeptCall | None) -> tuple[str, bytes]:
    """What was changed, by which of the two hashes the next call goes on from; and that hash."""
    if following is None or following.record is None:
        return "record or hash", call.hash
    if next_hash(computed, following.seq, following.record) == following.hash:
        return "hash", computed
    return "record", call.hash


def _missing(expected: int, found: int) -> str:
    if found < expected:
        return "another call has the same seq, or stands"
    missing = f"call {expected}" if found == expected + 1 else f"calls {expected} to {found - 1}"
    return f"{missing} are missing" if found > expected + 1 else f"{missing} is missing"
