"""Everything that can be checked of one trajectory."""

from __future__ import annotations

from moorage.capture.call import Call
from moorage.capture.packing import count
from moorage.capture.tree import CallTree
from moorage.pool.archive import Archive, KeptCall, Trace
from moorage.traces.verifying.beside import Blobs, check_extras
from moorage.traces.verifying.boundaries import check_boundary
from moorage.traces.verifying.chain import check_chain
from moorage.traces.verifying.conversations import Saids
from moorage.traces.verifying.faults import Findings
from moorage.traces.verifying.judging import judge_again
from moorage.traces.verifying.record import check_record

__all__ = ["verify_trajectory"]

UNREADABLE = "a call before it cannot be read or placed"


async def verify_trajectory(archive: Archive, trace: Trace, blobs: Blobs) -> Findings:
    """What was found in it. Raises NotFoundError when it is gone meanwhile."""
    uid, findings = trace.trajectory.uid, Findings()
    for field in trace.broken:
        findings.fault(uid, None, field, "it is no JSON object")
    kept = await archive.kept(uid, extras=True)
    check_chain(uid, kept, findings)
    checking = _Checking(trace, findings)
    calls = [call for one in kept if (call := checking.check(one)) is not None]
    await blobs.check(calls, findings)
    findings.trajectories = 1
    findings.calls = len(kept)
    findings.head = kept[-1].hash if kept else None
    return findings


class _Checking:
    """The calls of one trajectory, one after the other."""

    def __init__(self, trace: Trace, findings: Findings) -> None:
        self._trace, self._findings = trace, findings
        self._tree: CallTree | None = CallTree()
        """None: a call is missing from it, so what comes after cannot be placed."""
        self._saids = Saids()
        self._top_step: int | None = -1
        self._next = 0

    def check(self, kept: KeptCall) -> Call | None:
        uid, findings = self._trace.trajectory.uid, self._findings
        if kept.seq != self._next:  # said already, with the chain
            self._tree = self._top_step = None
        self._next = kept.seq + 1
        call = check_record(uid, kept, self._top_step, findings)
        self._top_step = kept.step_index if self._top_step is None else max(self._top_step, kept.step_index)
        if call is None:
            self._tree = None
            return None
        findings.tokens += count(call.record.delta) + count(call.record.completion)
        extras = check_extras(kept, call, findings)
        if self._tree is None:
            findings.leave_open(UNREADABLE)
            return call
        node = check_boundary(self._tree, call, findings)
        if node is None:
            self._tree = None
            return call
        self._saids.read(self._tree, node, call, extras, findings)
        self._judge(call)
        return call

    def _judge(self, call: Call) -> None:
        assert self._tree is not None
        options = None if "options" in self._trace.broken else self._trace.trajectory.options
        judgement = judge_again(self._tree, self._tree.node(call.seq), call, self._saids, options)
        if judgement.wrong is not None:
            self._findings.fault(call.record.session_id, call.seq, *judgement.wrong)
        elif judgement.open is not None:
            self._findings.leave_open(judgement.open)
        else:
            self._findings.judged += 1
