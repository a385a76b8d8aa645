"""One record by itself: that it can be read, that its parts agree in length, that its row says the same."""

from __future__ import annotations

import msgspec

from moorage.capture.call import Call, Draft
from moorage.capture.chain import decode_record
from moorage.capture.packing import ID_BYTES
from moorage.pool.archive import KeptCall
from moorage.traces.verifying.faults import Findings

__all__ = ["check_record"]

_FLOAT_BYTES = 8


def check_record(uid: str, kept: KeptCall, top_step: int | None, findings: Findings) -> Call | None:
    """The call; None when its record cannot be read. `top_step`: the highest step_index before it, -1: none;
    None: not known."""
    if kept.record is None:
        return None  # said already, with the chain
    try:
        draft = decode_record(kept.record)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        findings.fault(uid, kept.seq, "record", f"it is no record: {fault}")
        return None
    _check_row(uid, kept, draft, top_step, findings)
    _check_lengths(uid, kept.seq, draft, findings)
    if draft.session_id != uid:
        findings.fault(uid, kept.seq, "session_id", f"it is a call of {draft.session_id!r}")
    return Call(
        record=draft,
        seq=kept.seq,
        step_index=kept.step_index,
        hash=kept.hash,
        late=kept.late,
        reward=kept.reward,
    )


def _check_row(uid: str, kept: KeptCall, draft: Draft, top_step: int | None, findings: Findings) -> None:
    expected = draft.step_index if draft.step_index is not None or top_step is None else top_step + 1
    if expected is not None and kept.step_index != expected:
        findings.fault(uid, kept.seq, "step_index", f"its row says {kept.step_index}, it is {expected}")
    if kept.delivered != draft.delivered:
        said = ("undelivered", "delivered")
        findings.fault(
            uid, kept.seq, "delivered", f"its row says {said[kept.delivered]}, its record {said[draft.delivered]}"
        )
    if kept.policy_version != draft.policy_version:
        message = f"its row says {kept.policy_version}, its record {draft.policy_version}"
        findings.fault(uid, kept.seq, "policy_version", message)


def _check_lengths(uid: str, seq: int, draft: Draft, findings: Findings) -> None:
    for field in ("delta", "completion"):
        if len(getattr(draft, field)) % ID_BYTES:
            findings.fault(uid, seq, field, f"{len(getattr(draft, field))} bytes are no whole number of token ids")
    tokens = len(draft.completion) // ID_BYTES
    if draft.logprobs is None:
        if draft.source == "model":
            findings.fault(uid, seq, "logprobs", f"there are none for {tokens} sampled tokens")
    elif len(draft.logprobs) != tokens * _FLOAT_BYTES:
        given = len(draft.logprobs) / _FLOAT_BYTES
        findings.fault(uid, seq, "logprobs", f"{given:g} of them for {tokens} sampled tokens")
    if any(not 0 <= span.start <= span.end <= tokens for span in draft.spans):
        findings.fault(uid, seq, "spans", f"they name tokens beyond the {tokens} that were sampled")
    if (draft.verdict == "branch") != (draft.reason is not None):
        findings.fault(uid, seq, "reason", f"{draft.reason or 'none'} is given for the verdict {draft.verdict}")
    if draft.verdict == "root" and draft.parent is not None:
        findings.fault(uid, seq, "parent", "a root has none")
