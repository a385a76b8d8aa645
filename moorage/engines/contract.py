"""What an engine gave, whatever its dialect: token ids, log probabilities, and who sampled them with which weights."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.call import Span

__all__ = ["Generation", "Sampled"]


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """One choice as the engine sampled it."""

    index: int
    ids: bytes
    """[C] uint32, end-of-turn token included."""
    logprobs: bytes
    """[C] float64, one per id."""
    finish_reason: str
    stop_reason: int | str | None = None
    """The stop string, or the stop token's id; None: the end-of-sequence token, or it did not stop."""
    text: str | None = None
    """The engine's text, stop string and special tokens left out; None: it gave none."""
    top_logprobs: msgspec.Raw | None = None
    """As the engine gave them; None: not asked for."""
    spans: tuple[Span, ...] = ()
    message: dict[str, Any] | None = None
    """The assistant's message of a chat reply, as the client gets it; None for other replies."""
    routed_experts: msgspec.Raw | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One reply of an engine, read."""

    prompt: bytes
    """[P] uint32: what the engine says it was given."""
    choices: tuple[Sampled, ...]
    model: str
    usage: dict[str, Any] | None = None
