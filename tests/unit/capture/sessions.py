"""Sessions of calls for the capture tests: a builder of records, and what a tree must say, worked out the slow way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moorage.capture.call import Call, Draft
from moorage.capture.packing import pack_floats, pack_ids, unpack_ids
from moorage.capture.tree import CallTree, Node


def draft(**fields: Any) -> Draft:
    """A record of which only what a test is about is given; ids as lists."""
    fields["delta"] = pack_ids(fields.get("delta", ()))
    completion = list(fields.get("completion", ()))
    fields["completion"] = pack_ids(completion)
    if "logprobs" not in fields:
        fields["logprobs"] = pack_floats([-0.5 - one / 1000 for one in range(len(completion))])
    base: dict[str, Any] = {
        "call_id": "call",
        "request_id": "request",
        "choice": 0,
        "session_id": "session",
        "parent": None,
        "keep": 0,
        "finish_reason": "stop",
        "stop_token": True,
    }
    return Draft(**{**base, **fields})


@dataclass
class Session:
    """Calls as a store would give them back, and the tree that took them."""

    calls: list[Call] = field(default_factory=list)
    tree: CallTree = field(default_factory=CallTree)

    def add(self, **fields: Any) -> Node:
        """Commit a call; ids and digests of its own unless given."""
        seq = len(self.calls)
        fields.setdefault("call_id", f"call-{seq}")
        fields.setdefault("request_id", f"request-{seq}")
        late, is_last, reward = fields.pop("late", False), fields.pop("is_last", False), fields.pop("reward", None)
        call = Call(
            record=draft(**fields),
            seq=seq,
            step_index=seq,
            hash=seq.to_bytes(32, "little"),
            late=late,
            is_last=is_last,
            reward=reward,
        )
        self.calls.append(call)
        return self.tree.add(call)

    def extend(self, parent: Node, delta: list[int], completion: list[int], **fields: Any) -> Node:
        """A call that goes on from the whole path of another."""
        fields = {"verdict": "exact", **fields}
        return self.add(parent=parent.seq, keep=parent.path_tokens, delta=delta, completion=completion, **fields)

    def paths(self) -> list[list[int]]:
        """Every call's path by the definition: `path(parent)[:keep] + delta + completion`."""
        paths: list[list[int]] = []
        for call in self.calls:
            record = call.record
            kept = [] if record.parent is None else paths[record.parent][: record.keep]
            paths.append(kept + unpack_ids(record.delta) + unpack_ids(record.completion))
        return paths


def shared(one: list[int], other: list[int]) -> int:
    """How many leading items two lists share."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
