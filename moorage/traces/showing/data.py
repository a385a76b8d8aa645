"""`moor trace show --json`: ids, texts, log probabilities and boundaries, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moorage.capture.call import Call
from moorage.capture.packing import unpack_ids
from moorage.errors import NotFoundError
from moorage.pool.archive import Archive, Trace
from moorage.traces.calls import calls_of, tree_of
from moorage.traces.showing.call_view import CallView, chain_starts, facts_of, same_prompts, view_of
from moorage.traces.showing.pieces import texts_of
from moorage.traces.verifying.verify import need_trace

if TYPE_CHECKING:
    from moorage.capture.tree import CallTree
    from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["ShownTrace", "load", "shown"]


class ShownTrace:
    """A trajectory with its calls, in memory."""

    def __init__(self, trace: Trace, calls: Sequence[Call], tree: CallTree) -> None:
        self.trajectory = trace.trajectory
        self.calls = calls
        self.tree = tree
        self.starts = chain_starts(tree.nodes())
        self.again = same_prompts(calls)

    def view(self, seq: int) -> CallView:
        return view_of(self.tree, self.calls[seq])

    def templates(self) -> set[bytes]:
        """Digests of the templates that its exact prompts were rendered with."""
        return {call.record.template_digest for call in self.calls} - {b""}


async def load(archive: Archive, uid: str, call: int | None) -> ShownTrace:
    """Raises NotFoundError for an unknown uid, and for a `call` that it has not; FailedError `record_broken`."""
    trace = await need_trace(archive, uid)
    calls = await calls_of(archive, trace)
    if call is not None and call >= len(calls):
        raise NotFoundError(
            f"{uid} has no call {call}: it has {len(calls)}",
            code="unknown_call",
            next=[f"moor trace show {uid}"],
        )
    return ShownTrace(trace, calls, tree_of(uid, calls))


def shown(trace: ShownTrace, tokenizer: Tokenizer | None, call: int | None) -> dict[str, Any]:
    """The whole of it, or with `call` this one alone, its whole prompt with it."""
    trajectory = trace.trajectory
    wanted = range(len(trace.calls)) if call is None else [call]
    return {
        "uid": trajectory.uid,
        "kind": trajectory.kind,
        "prompt_uid": trajectory.prompt_uid,
        "channel": trajectory.channel,
        "state": trajectory.state,
        "created_at": trajectory.created_at,
        "completed_at": trajectory.completed_at,
        "template_is_its": template_is_its(trace, tokenizer),
        "calls": [_call(trace, seq, tokenizer, whole=call is not None) for seq in wanted],
    }


def template_is_its(trace: ShownTrace, tokenizer: Tokenizer | None) -> bool | None:
    """Whether the tokenizer's template is the one that the prompts were rendered with; None: nothing tells."""
    named = trace.templates()
    return None if tokenizer is None or not named else named == {tokenizer.template_digest}


def _call(trace: ShownTrace, seq: int, tokenizer: Tokenizer | None, *, whole: bool) -> dict[str, Any]:
    view = trace.view(seq)
    prompt: dict[str, Any] = {"ids": view.delta, "texts": texts_of(view.delta, tokenizer)}
    if whole:
        ids = unpack_ids(trace.tree.prompt(view.node))
        prompt["whole"] = {"ids": ids, "texts": texts_of(ids, tokenizer)}
    logprobs = None if view.logprobs is None else [one if math.isfinite(one) else None for one in view.logprobs]
    sampled = {"ids": view.sampled, "texts": texts_of(view.sampled, tokenizer), "logprobs": logprobs}
    return {
        **facts_of(view),
        "chain": trace.starts[seq],
        "same_prompt_as": trace.again.get(seq),
        "prompt": prompt,
        "sampled": sampled,
    }
