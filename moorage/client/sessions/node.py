"""What was sampled in one conversation, as Atropos's trainers read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

__all__ = ["SequenceNode", "state_of"]


class SequenceNode(BaseModel):
    """A whole conversation; the three lists are of one length [T]."""

    full_text: str
    """The text of the tokens, special tokens kept."""
    tokens: list[int]
    masked_tokens: list[int]
    """-100 where nothing was sampled, else the token."""
    logprobs: list[float]
    """1.0 where nothing was sampled, else the token's log probability."""
    metadata: dict[str, Any] | None = None
    """`finish_reason`, and what the gateway's nodes have beside it."""


def state_of(nodes: Iterable[Mapping[str, Any]], *, track_tree: bool) -> dict[str, Any]:
    """What `get_state` gives. Of a tree also `sequences` and `tree`, by text: of samples with one text the last."""
    made = [SequenceNode.model_construct(**node) for node in nodes]
    if not track_tree:
        return {"nodes": made}
    by_text = {node.full_text: node for node in made}
    return {"sequences": by_text, "tree": by_text, "nodes": made}
