"""Calls as Atropos's nodes: one per leaf, with everything that was sampled on the way to it left unmasked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from moorage.capture.call import Call
from moorage.capture.node import Node
from moorage.capture.packing import unpack_floats, unpack_ids
from moorage.capture.tree import CallTree
from moorage.errors import FailedError

__all__ = ["MASKED", "NOT_SAMPLED", "nodes_of", "nodes_shown"]

MASKED = -100
"""In `masked_tokens`: not to be trained on."""

NOT_SAMPLED = 1.0
"""In `logprobs`: there is none; no probability has this logarithm."""


def nodes_of(
    calls: Sequence[Call],
    decode: Callable[[list[int]], str],
    *,
    track_tree: bool = False,
    include_undelivered: bool = False,
) -> list[dict[str, Any]]:
    """The nodes of a session, all its `calls` given by `seq`; with `track_tree` one per call.

    `decode` gives the text of ids, special tokens kept. A call's sampled tokens are unmasked in every node whose
    prompt has the call's whole path. Those of a call that did not reach its client stay masked, unless such calls are
    included. Where log probabilities are not known (`metadata.logprobs_unknown`), they are NOT_SAMPLED.

    Raises FailedError for a record whose log probabilities are not as many as its tokens.
    """
    tree = CallTree()
    for call in calls:
        tree.add(call)
    return [
        {**_tokens(tree, node, calls, decode, include_undelivered), "metadata": _metadata(node, calls, track_tree)}
        for node in nodes_shown(tree, track_tree=track_tree, include_undelivered=include_undelivered)
    ]


def nodes_shown(tree: CallTree, *, track_tree: bool = False, include_undelivered: bool = False) -> list[Node]:
    """Those of a session's tree that `nodes_of` tells of."""
    if track_tree:
        return [node for node in tree.nodes() if node.delivered or include_undelivered]
    return tree.leaves(include_undelivered=include_undelivered)


def _tokens(
    tree: CallTree, node: Node, calls: Sequence[Call], decode: Callable[[list[int]], str], include_undelivered: bool
) -> dict[str, Any]:
    """[T] tokens, and of the same length what was sampled of them and how likely it was."""
    tokens = unpack_ids(tree.path(node))
    masked_tokens = [MASKED] * len(tokens)
    logprobs = [NOT_SAMPLED] * len(tokens)
    for one, upto in _line(node):
        if one.path_tokens > upto or not (one.delivered or include_undelivered):
            continue
        masked_tokens[one.prompt_tokens : one.path_tokens] = tokens[one.prompt_tokens : one.path_tokens]
        known = _logprobs(one, calls)
        if known is not None:
            logprobs[one.prompt_tokens : one.path_tokens] = known
    return {"full_text": decode(tokens), "tokens": tokens, "masked_tokens": masked_tokens, "logprobs": logprobs}


def _logprobs(node: Node, calls: Sequence[Call]) -> list[float] | None:
    """[C] one per sampled token, never filled up; None: not known."""
    record = calls[node.seq].record
    if record.logprobs is None:
        return None
    values = unpack_floats(record.logprobs)
    sampled = node.path_tokens - node.prompt_tokens
    if len(values) != sampled:
        message = f"the call {record.call_id} has {len(values)} log probabilities for {sampled} sampled tokens"
        raise FailedError(
            message, code="record_broken", hint="the store gave back what it was not given: restore the file"
        )
    return values


def _metadata(node: Node, calls: Sequence[Call], track_tree: bool) -> dict[str, Any]:
    line = _line(node)
    record = calls[node.seq].record
    metadata: dict[str, Any] = {
        "finish_reason": node.finish_reason,
        "call_id": record.call_id,
        "parent_call_id": None if node.parent is None else calls[node.parent.seq].record.call_id,
        "branch_reason": node.reason if track_tree else _branch_reason(node),
        "boundaries": [
            {"at": one.keep, "verdict": one.verdict, "reason": one.reason}
            for one, upto in reversed(line)
            if one.keep < upto
        ],
        "mode": node.mode,
        "weight_version": record.policy_version,
    }
    if record.source == "dummy":
        metadata["dummy"] = True
    if not node.delivered:
        metadata["delivered"] = False
    if any(calls[one.seq].record.logprobs is None for one, upto in line if one.path_tokens <= upto):
        metadata["logprobs_unknown"] = True
    return metadata


def _branch_reason(node: Node) -> str | None:
    """Why the node's chain parted from another one, its last branch counts; None: it never did."""
    while node.reason is None and node.extends and node.parent is not None:
        node = node.parent
    return node.reason


def _line(node: Node) -> list[tuple[Node, int]]:
    """The node and its ancestors, each with the length up to which its path is the node's."""
    upto = node.path_tokens
    line = [(node, upto)]
    while node.parent is not None:
        upto = min(upto, node.keep)
        node = node.parent
        line.append((node, upto))
    return line
