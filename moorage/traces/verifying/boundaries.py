"""Whether a prompt stands in its session's tree where its record says: its parent, and what it keeps of it."""

from __future__ import annotations

from moorage.capture.call import Call
from moorage.capture.packing import count
from moorage.capture.tree import CallTree, Node
from moorage.traces.verifying.faults import Findings

__all__ = ["check_boundary"]


def check_boundary(tree: CallTree, call: Call, findings: Findings) -> Node | None:
    """The call's node, put into the tree of those before it; None: it does not fit there."""
    uid, record = call.record.session_id, call.record
    try:
        node = tree.add(call, loose_reply_key=record.loose_reply_key, reasoning_digest=record.reasoning_digest)
    except ValueError as fault:
        findings.fault(uid, call.seq, "keep" if "keeps" in str(fault) else "parent", str(fault))
        return None
    _check_path(tree, node, call, findings)
    if record.verdict == "exact" and not node.extends:
        findings.fault(uid, call.seq, "verdict", f"exact, but its prompt does not keep {_whole(node)}")
    if node.parent is not None and not node.extends and tree.shared(node.parent, tree.prompt(node)) != record.keep:
        findings.fault(uid, call.seq, "keep", f"{record.keep} tokens, but prompt and parent agree in more")
    return node


def _check_path(tree: CallTree, node: Node, call: Call, findings: Findings) -> None:
    """The law of the record: a path is what is kept of the parent's, what the prompt adds, and what was sampled."""
    record = call.record
    kept = b"" if node.parent is None else tree.path(node.parent)[: 4 * record.keep]
    path = tree.path(node)
    if path != kept + record.delta + record.completion or count(path) != node.path_tokens:
        findings.fault(record.session_id, call.seq, "delta", "joined with what it keeps, it is not the call's path")


def _whole(node: Node) -> str:
    return "a parent" if node.parent is None else f"all {node.parent.path_tokens} tokens of call {node.parent.seq}"
