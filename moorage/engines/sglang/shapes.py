"""The fields of SGLang's `/generate` that are read; unknown ones pass by."""

from __future__ import annotations

import msgspec

__all__ = ["FinishSaid", "GeneratedSaid", "MetaSaid", "Triple"]

Triple = tuple[float | None, int, str | None]
"""(log probability, token id, text or null)."""


class FinishSaid(msgspec.Struct):
    """Why it ended."""

    type: str
    matched: int | str | list[int] | None = None
    """The token or text that ended it."""
    message: str | None = None
    """What was wrong, of an abort."""


class MetaSaid(msgspec.Struct):
    """`meta_info`. Lists are of this choice."""

    id: str = ""
    finish_reason: FinishSaid | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    weight_version: str | int | None = None
    output_token_logprobs: list[Triple] | None = None
    output_top_logprobs: list[list[Triple] | None] | None = None
    output_token_logprobs_length: int | None = None
    """How many there are in all, also where an event has the new ones alone."""
    input_token_logprobs: list[Triple] | None = None
    input_top_logprobs: list[list[Triple] | None] | None = None


class GeneratedSaid(msgspec.Struct):
    """One choice of `/generate`, or an event of its stream."""

    meta_info: MetaSaid
    text: str = ""
    index: int = 0
    """Of the choice, in a stream."""
