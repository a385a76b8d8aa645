"""Prompts of text completions: the longest call whose text the prompt begins with, its ids as they are, and the rest.

The text of a call is what its ids decode to, special tokens kept. Bytes that are no whole character decode to U+FFFD,
which is what the client got and sends back, so they stay the ids that they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moorage.capture.node import Node
from moorage.capture.packing import count, pack_ids, unpack_ids
from moorage.capture.tree import CallTree
from moorage.capture.verdict import Boundary, Facts, place
from moorage.engines.rendering.ask import PromptPlan
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.errors import UsageError

__all__ = ["text_plan"]


def text_plan(
    tokenizer: Tokenizer, tree: CallTree, prompt: str | Sequence[int], *, prompt_limit: int | None = None
) -> PromptPlan:
    """The prompt of a text completion: ids as they are given, text as the module says.

    Raises UsageError `prompt_not_tokens` for ids that the vocabulary does not have, `prompt_empty`.
    """
    node, boundary = None, None
    if isinstance(prompt, str):
        node, ids = _continued(tokenizer, tree, prompt)
    else:
        ids = _given(tokenizer, prompt)
    if not ids:
        raise UsageError("the prompt is empty", code="prompt_empty", hint="send at least one token")
    cut = prompt_limit is not None and count(ids) > prompt_limit
    if cut and prompt_limit is not None:
        ids = ids[len(ids) - 4 * prompt_limit :]
    elif node is not None:
        boundary = Boundary(node, node.path_tokens, "exact", None)
    if boundary is None:
        boundary = place(tree, ids, matched=None, facts=Facts(cut=cut))
    return PromptPlan(
        ids=ids,
        parent=boundary.parent,
        keep=boundary.keep,
        verdict=boundary.verdict,
        reason=boundary.reason,
        matched=node,
        covered=0,
    )


def _given(tokenizer: Tokenizer, prompt: Sequence[int]) -> bytes:
    try:
        ids = pack_ids(prompt)
    except (TypeError, ValueError):
        ids = None
    if ids is None or not tokenizer.in_vocabulary(prompt):
        raise UsageError(
            "the prompt holds what is no token id of this model",
            code="prompt_not_tokens",
            hint=f"ids go from 0 to {tokenizer.vocab_size - 1}",
        )
    return ids


def _continued(tokenizer: Tokenizer, tree: CallTree, text: str) -> tuple[Node | None, bytes]:
    found = _longest(tokenizer, tree, text)
    if found is None:
        return None, pack_ids(tokenizer.encode_fresh(text))
    node, reached = found
    return node, tree.path(node) + pack_ids(tokenizer.encode(text[reached:]))


class _Reached(msgspec.Struct, frozen=True):
    """How far a call's text goes in the prompt."""

    characters: int
    pending: bytes
    """The beginning of a character, at the end of the call's tokens."""


def _longest(tokenizer: Tokenizer, tree: CallTree, text: str) -> tuple[Node, int] | None:
    """The call whose text is the longest beginning of `text`, and how many characters that is."""
    reached: dict[int, _Reached] = {}
    best: tuple[tuple[bool, int, int], Node, int] | None = None
    for node in tree.nodes():
        here = _reach(tokenizer, tree, text, node, reached)
        if here is None:
            continue
        reached[node.seq] = here
        characters = here.characters
        if here.pending:
            # As a text of its own the call ends in U+FFFD.
            replaced = tokenizer.finish(here.pending)
            if not text.startswith(replaced, characters):
                continue
            characters += len(replaced)
        rank = (node.delivered, characters, node.seq)
        if best is None or rank > best[0]:
            best = (rank, node, characters)
    return None if best is None else best[1:]


def _reach(
    tokenizer: Tokenizer, tree: CallTree, text: str, node: Node, reached: dict[int, _Reached]
) -> _Reached | None:
    """None: the prompt does not begin as the call does."""
    parent = node.parent
    if parent is not None and node.keep == parent.path_tokens:
        before = reached.get(parent.seq)
        if before is None:
            return None
        said, pending = tokenizer.follow(before.pending, unpack_ids(node.delta + node.completion))
        at = before.characters
        return _Reached(at + len(said), pending) if text.startswith(said, at) else None
    ids = unpack_ids(tree.path(node))
    said, pending = tokenizer.follow(b"", ids)
    if said.startswith(" ") and not tokenizer.decode(ids[:1], skip_special=False).startswith(" "):
        said = said[1:]  # a dummy prefix
    return _Reached(len(said), pending) if text.startswith(said) else None
