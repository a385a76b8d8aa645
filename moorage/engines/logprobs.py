"""One shape for how likely a prompt's tokens are, whatever engine was asked.

Row 0 has nothing before it: its entry is empty, and null for the prompt's own token. Every other row has exactly k
entries, the likeliest first; of two as likely the one stands first that the engine put first.
"""

from __future__ import annotations

import math

import msgspec

from moorage.engines.contract import PromptScores
from moorage.engines.vllm.faults import ShortLogprobs

__all__ = ["FLOOR", "PromptLogprobs", "normalised"]

FLOOR = -9999.0
"""In place of minus infinity, which JSON does not have."""


class PromptLogprobs(msgspec.Struct):
    """P tokens, k of the likeliest for each."""

    prompt_tokens: list[int]
    """[P]."""
    prompt_topk_token_ids: list[list[int]]
    """[P][k]; the first row is empty."""
    prompt_topk_logprobs: list[list[float]]
    """[P][k], of the same tokens; the first row is empty."""
    prompt_logprobs: list[float | None]
    """[P] of the prompt's own tokens; the first is null."""


def normalised(ids: list[int], scores: PromptScores, top_k: int) -> PromptLogprobs:
    """`ids`: the prompt, [P]. Raises ShortLogprobs where the engine gave too little; nothing is filled up."""
    if len(scores.logprobs) != len(ids) or len(scores.tops) != len(ids):
        raise ShortLogprobs(f"the engine gave {len(scores.tops)} rows of log probabilities for {len(ids)} tokens")
    topk_ids: list[list[int]] = [[]]
    topk_logprobs: list[list[float]] = [[]]
    own: list[float | None] = [None]
    for position in range(1, len(ids)):
        row = sorted(scores.tops[position], key=lambda pair: -pair[1])[:top_k]
        logprob = scores.logprobs[position]
        if len(row) < top_k or logprob is None:
            given = f"{len(row)} of {top_k} log probabilities" if logprob is not None else "no log probability"
            raise ShortLogprobs(f"the engine gave {given} of the prompt's token {position}")
        topk_ids.append([token for token, _ in row])
        topk_logprobs.append([_finite(value) for _, value in row])
        own.append(_finite(logprob))
    return PromptLogprobs(ids, topk_ids, topk_logprobs, own)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else FLOOR
