"""Verifying: no fault in what a gateway records, whatever its clients do, and a fault wherever a byte is another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.capture.chain import GENESIS, decode_record, digest, encode_record, next_hash
from moorage.pool.archive import KeptCall
from moorage.traces.verifying.beside import Blobs
from moorage.traces.verifying.faults import Findings
from moorage.traces.verifying.trajectory import verify_trajectory
from tests.unit.traces.toy import ToySession

SESSIONS = st.builds(lambda seed, requests: ToySession(seed).grow(requests), st.integers(0, 2**32), st.integers(0, 14))


class OneTrajectory:
    """What verifying asks of an archive, over a toy session."""

    def __init__(self, kept: Sequence[KeptCall], blobs: dict[bytes, bytes]) -> None:
        self._kept, self._blobs = kept, blobs

    async def kept(self, uid: str, *, extras: bool) -> Sequence[KeptCall]:
        return self._kept

    async def blobs(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return {name: self._blobs[name] for name in digests if name in self._blobs}


def verified(session: ToySession, kept: Sequence[KeptCall], blobs: dict[bytes, bytes] | None = None) -> Findings:
    archive: Any = OneTrajectory(kept, session.blobs if blobs is None else blobs)
    return asyncio.run(verify_trajectory(archive, session.trace(), Blobs(archive)))


def places(findings: Findings) -> set[tuple[int | None, str]]:
    return {(fault.call, fault.field) for fault in findings.faults}


def changed(kept: Sequence[KeptCall], at: int, **fields: Any) -> list[KeptCall]:
    return [msgspec.structs.replace(one, **fields) if place == at else one for place, one in enumerate(kept)]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def rechained(kept: Sequence[KeptCall], at: int, **fields: Any) -> list[KeptCall]:
    """A record with other fields, and hashes that fit: what someone does who knows how."""
    previous, out = GENESIS, []
    for place, one in enumerate(kept):
        record = one.record
        if place == at and record is not None:
            record = encode_record(msgspec.structs.replace(decode_record(record), **fields))
        assert record is not None
        previous = next_hash(previous, one.seq, record)
        out.append(msgspec.structs.replace(one, record=record, hash=previous))
    return out


@given(SESSIONS)
@settings(max_examples=150)
def test_what_a_gateway_recorded_has_no_fault(session: ToySession) -> None:
    findings = verified(session, session.kept())
    assert not findings.faults
    assert findings.calls == len(session.drafts) == findings.judged + sum(findings.open.values())


def test_most_boundaries_are_judged_again() -> None:
    found = [verified(session, session.kept()) for session in (ToySession(seed).grow(12) for seed in range(60))]
    judged, calls = sum(one.judged for one in found), sum(one.calls for one in found)
    assert judged > 0.8 * calls
    reasons = {draft.reason for seed in range(60) for draft in ToySession(seed).grow(12).drafts}
    assert {"edited", "tools_changed", "reasoning_stripped", "system_changed", "template"} <= reasons


@given(SESSIONS.filter(lambda session: session.drafts), st.data())
@settings(max_examples=150)
def test_a_flipped_byte_is_found_and_named(session: ToySession, data: st.DataObject) -> None:
    kept = session.kept()
    at = data.draw(st.integers(0, len(kept) - 1))
    field = data.draw(st.sampled_from(["record", "hash", "extras"]))
    content = getattr(kept[at], field)
    findings = verified(
        session, changed(kept, at, **{field: flipped(content, data.draw(st.integers(0, len(content) - 1)))})
    )
    named = {(call, one) for call, one in places(findings) if call == at and field in one}
    assert named, findings.faults


def test_one_flipped_byte_of_a_hash_is_one_fault() -> None:
    session = ToySession(3).grow(6)
    kept = session.kept()
    for at in range(len(kept) - 1):
        findings = verified(session, changed(kept, at, hash=flipped(kept[at].hash, 5)))
        assert places(findings) == {(at, "hash")}


@pytest.mark.parametrize("gone", [0, 2])
def test_a_call_that_is_missing_is_named(gone: int) -> None:
    session = ToySession(3).grow(6)
    findings = verified(session, [one for one in session.kept() if one.seq != gone])
    assert (gone + 1, "seq") in places(findings)
    assert not [fault for fault in findings.faults if fault.call is not None and fault.call > gone + 1]


def test_calls_that_changed_places_are_named() -> None:
    kept = (session := ToySession(3).grow(6)).kept()
    kept[1], kept[2] = kept[2], kept[1]
    assert {(2, "seq"), (1, "seq")} <= places(verified(session, kept))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"keep": 10_000}, "keep"),
        ({"parent": 90}, "parent"),
        ({"verdict": "exact", "reason": None}, "verdict"),
        ({"verdict": "branch", "reason": None}, "reason"),
        ({"logprobs": b"12345678"}, "logprobs"),
        ({"logprobs": None}, "logprobs"),
        ({"completion": b"12345"}, "completion"),
        ({"session_id": "another"}, "session_id"),
        ({"policy_version": 9}, "policy_version"),
        ({"delivered": None}, "delivered"),
        ({"prompt_key": bytes(16)}, "reply_key"),  # which is made from it
        ({"reply_key": bytes(16)}, "reply_key"),
        ({"reasoning_digest": bytes(16)}, "reasoning_digest"),
        ({"tools_digest": bytes(16)}, "tools_digest"),
        ({"sampling_digest": bytes(16)}, "sampling_digest"),
        ({"extras_digest": bytes(16)}, "extras"),
    ],
)
def test_a_record_that_lies_is_found_although_its_chain_fits(fields: dict[str, Any], field: str) -> None:
    session = next(one for seed in range(99) if (one := ToySession(seed).grow(5)).drafts[3].verdict == "branch")
    if "delivered" in fields:
        fields = {"delivered": not session.drafts[3].delivered}
    findings = verified(session, rechained(session.kept(), 3, **fields))
    assert (3, field) in places(findings), findings.faults


def test_a_wrong_reason_is_found() -> None:
    for seed in range(40):
        session = ToySession(seed).grow(8)
        for seq, draft in enumerate(session.drafts):
            if draft.verdict == "branch" and draft.reason != "truncated":
                findings = verified(session, rechained(session.kept(), seq, reason="truncated"))
                assert (seq, "reason") in places(findings), (seed, seq)


def test_blobs_are_looked_at() -> None:
    session = ToySession(5).grow(3)
    name = session.drafts[1].sampling_digest
    gone = {key: content for key, content in session.blobs.items() if key != name}
    assert (1, "sampling_digest") in places(verified(session, session.kept(), gone))
    other = {**session.blobs, name: b"{}"}
    assert (1, "sampling_digest") in places(verified(session, session.kept(), other))
    assert digest(b"{}") != name


def test_a_record_that_cannot_be_unpacked_is_named_and_what_follows_is_not_judged() -> None:
    session = ToySession(3).grow(6)
    kept = changed(session.kept(), 1, record=None, broken={"record": "it cannot be unpacked: bad frame"})
    findings = verified(session, kept)
    assert (1, "record") in places(findings)
    assert findings.open["a call before it cannot be read or placed"] == len(kept) - 2
