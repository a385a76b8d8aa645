"""One call as it is shown: where its prompt stands, its tokens, what it says in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.capture.call import Call
from moorage.capture.node import Node
from moorage.capture.packing import unpack_floats, unpack_ids
from moorage.capture.tree import CallTree

__all__ = ["CallView", "boundary_words", "chain_starts", "facts_of", "same_prompts", "view_of"]

REASONS = {
    "template": "the template writes the turns before otherwise",
    "reasoning_stripped": "earlier reasoning was left out",
    "tool_reserialised": "an earlier tool call was written anew",
    "tools_changed": "the tools are others",
    "edited": "what was said before came back changed",
    "truncated": "the prompt was cut",
    "system_changed": "the system message is another",
    "unproven_tail": "where the new text begins could not be proven",
    "engine_rendered": "the engine rendered this prompt",
}


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of a call."""

    call: Call
    node: Node
    kept: list[int]
    """[K] ids of the parent's path that the prompt begins with."""
    delta: list[int]
    """[D] the rest of the prompt."""
    sampled: list[int]
    """[C]"""
    logprobs: list[float] | None
    """[C]; None: not known, or not as many as there are sampled tokens."""

    @property
    def probabilities(self) -> list[float] | None:
        """[C]; 0 for what is no number."""
        return (
            None
            if self.logprobs is None
            else [math.exp(one) if one < 0 else float(not math.isnan(one)) for one in self.logprobs]
        )


def view_of(tree: CallTree, call: Call) -> CallView:
    """`tree` has all calls."""
    node, record = tree.node(call.seq), call.record
    logprobs = None if record.logprobs is None else unpack_floats(record.logprobs)
    sampled = unpack_ids(record.completion)
    return CallView(
        call=call,
        node=node,
        kept=unpack_ids(tree.prompt(node)[: 4 * record.keep]),
        delta=unpack_ids(record.delta),
        sampled=sampled,
        logprobs=logprobs if logprobs is not None and len(logprobs) == len(sampled) else None,
    )


def boundary_words(node: Node) -> str:
    """How the prompt goes on from the session, in words."""
    if node.parent is None:
        return "begins anew" if node.verdict == "root" else f"keeps nothing: {REASONS[node.reason or 'edited']}"
    whole, parent = node.parent.path_tokens, node.parent.seq
    if node.extends:
        why = f": {REASONS[node.reason]}" if node.reason else ""
        return f"goes on after all {whole} tokens of call {parent}{why}"
    where = "what was sampled there" if node.keep >= node.parent.prompt_tokens else "its prompt"
    why = REASONS[node.reason or "edited"]
    return f"keeps {node.keep} of the {whole} tokens of call {parent}, parts in {where}: {why}"


def same_prompts(calls: Sequence[Call]) -> dict[int, int]:
    """`seq` of a call → `seq` of the first call that was given the very same prompt, where that is an earlier one."""
    first: dict[tuple[int | None, int, bytes], int] = {}
    again: dict[int, int] = {}
    for call in calls:
        prompt = (call.record.parent, call.record.keep, call.record.delta)
        seq = first.setdefault(prompt, call.seq)
        if seq != call.seq:
            again[call.seq] = seq
    return again


def chain_starts(nodes: Sequence[Node]) -> dict[int, int]:
    """`seq` → the `seq` of the first call of its chain: each call goes on its parent's chain, the first one that
    keeps the parent's whole path; all others begin one."""
    starts: dict[int, int] = {}
    continued: set[int] = set()
    for node in nodes:
        parent = node.parent
        if parent is not None and node.extends and parent.seq not in continued:
            continued.add(parent.seq)
            starts[node.seq] = starts[parent.seq]
        else:
            starts[node.seq] = node.seq
    return starts


def facts_of(view: CallView) -> dict[str, Any]:
    """What else is said of a call."""
    record, call = view.call.record, view.call
    return {
        "seq": call.seq,
        "step_index": call.step_index,
        "call_id": record.call_id,
        "request_id": record.request_id,
        "choice": record.choice,
        "parent": record.parent,
        "keep": record.keep,
        "verdict": record.verdict,
        "reason": record.reason,
        "mode": record.mode,
        "source": record.source,
        "model": record.model,
        "policy_version": record.policy_version,
        "spans": [msgspec.structs.asdict(span) for span in record.spans],
        "finish_reason": record.finish_reason,
        "stop_token": record.stop_token,
        "delivered": record.delivered,
        "late": call.late,
        "is_last": call.is_last,
        "reward": call.reward,
        "created_at": record.created_at,
        "prompt_tokens": view.node.prompt_tokens,
        "path_tokens": view.node.path_tokens,
        "hash": call.hash.hex(),
    }
