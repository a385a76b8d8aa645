"""Prompts of text completions: the longest call whose text the prompt begins with, its ids as they are, and the rest.

The text of a call is what its ids decode to, special tokens kept. Bytes that are no whole character decode to U+FFFD,
which is what the client got and sends back, so they stay the ids that they were.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import msgspec

from moorage.capture.node import Node
from moorage.capture.packing import count, pack_ids, unpack_ids
from moorage.capture.strand import read_path
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
    """The node and the ids; a node that is left out keeps less than its path, which `place` finds out."""
    for form in dict.fromkeys((text, unicodedata.normalize("NFC", text))):
        # Many tokenizers compose letters first: what the client gets back for its text is then the composed one.
        found = _longest(tokenizer, tree, form)
        if found is not None:
            path = tree.path(found.node)
            ids = path[: len(path) - 4 * found.off] + pack_ids(tokenizer.encode(form[found.characters :]))
            return (None if found.off else found.node), ids
    return None, pack_ids(tokenizer.encode_fresh(text))


class _Found(msgspec.Struct, frozen=True):
    node: Node
    characters: int
    off: int
    """Special tokens at the end of the call's path that the prompt's text lacks: engines leave them out of texts."""


class _Reached(msgspec.Struct, frozen=True):
    """How far a call's text goes in the prompt."""

    characters: int
    pending: bytes
    """The beginning of a character, at the end of the call's tokens."""


def _longest(tokenizer: Tokenizer, tree: CallTree, text: str) -> _Found | None:
    """The call whose text is the longest beginning of `text`."""
    reached: dict[int, _Reached] = {}
    best: tuple[tuple[bool, int, bool, int], _Found] | None = None
    for node in tree.nodes():
        start = _start(node, reached)
        if start is None:
            continue
        before, ids = start[0], unpack_ids(read_path((node.strand, node.path_tokens), start[1]))
        here = _follow(tokenizer, text, before, ids, begins=start[1] == 0)
        if here is not None:
            reached[node.seq] = here
        off = 0
        while here is None and off < len(ids) and ids[len(ids) - 1 - off] in tokenizer.special_ids:
            off += 1
            here = _follow(tokenizer, text, before, ids[:-off], begins=start[1] == 0)
        characters = None if here is None else _whole_characters(tokenizer, text, here)
        if characters is None:
            continue
        rank = (node.delivered, characters, not off, node.seq)
        if best is None or rank > best[0]:
            best = (rank, _Found(node, characters, off))
    return None if best is None else best[1]


def _start(node: Node, reached: dict[int, _Reached]) -> tuple[_Reached, int] | None:
    """From where the call's text is to be compared; None: the prompt does not begin as its parent does."""
    parent = node.parent
    if parent is None or node.keep != parent.path_tokens:
        return _Reached(0, b""), 0
    before = reached.get(parent.seq)
    return None if before is None else (before, node.keep)


def _follow(tokenizer: Tokenizer, text: str, before: _Reached, ids: list[int], *, begins: bool) -> _Reached | None:
    said, pending = tokenizer.follow(before.pending, ids)
    if begins and said.startswith(" ") and not tokenizer.decode(ids[:1], skip_special=False).startswith(" "):
        said = said[1:]  # a dummy prefix
    at = before.characters
    return _Reached(at + len(said), pending) if text.startswith(said, at) else None


def _whole_characters(tokenizer: Tokenizer, text: str, here: _Reached) -> int | None:
    """As a text of its own a call ends in U+FFFD for what is pending."""
    replaced = tokenizer.finish(here.pending)
    return here.characters + len(replaced) if text.startswith(replaced, here.characters) else None
