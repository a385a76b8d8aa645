"""How a prompt that the engine rendered continues the session, judged by its tokens and, for the reason, its messages.

The first row that holds:

| the prompt | verdict | reason |
| --- | --- | --- |
| its messages match a node whose path it does not keep whole | branch | why the matched node's tokens were not kept |
| it answers no earlier reply (a fresh conversation), or the session is empty | root | |
| begins with the whole path of its parent, or of the matched node with no foreign reply after it | exact | |
| has a node's whole prompt, goes on, but not with what was sampled | branch | cut: truncated; else edited |
| has no messages (token and text prompts) | root | |
| answers replies, none of which was sampled here as it stands | branch | cut: truncated; the system message \
differs: system_changed; the tools differ: tools_changed; else edited |

A beginning of the reply that the client wrote itself (a prefill) is no reply, so it counts as the rest of the prompt.

Why a matched node's tokens were not kept, the first that holds, where A is the call whose tokens the prompt parts from:

| holds | reason |
| --- | --- |
| the request asks for a cut, or the prompt ends inside the path | truncated |
| the tools are not those of the matched node | tools_changed |
| A's reply had reasoning, and the prompt parts from it inside the reply | reasoning_stripped |
| A's reply called tools, and the prompt parts from it inside the reply | tool_reserialised |
| the texts are only loosely equal | edited |
| the session is exact and this call was passed through | engine_rendered |
| otherwise | template |

A root keeps nothing: its parent is None, although its prompt may begin as another one does.
"""

from __future__ import annotations

import msgspec

from moorage.capture.call import Reason, Verdict
from moorage.capture.node import Node
from moorage.capture.packing import count
from moorage.capture.tree import CallTree

__all__ = ["Boundary", "Facts", "judge", "place"]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says beside its tokens."""

    tools_digest: bytes = b""
    replies: int | None = None
    """Assistant messages after those of the matched node (of the request, when none matches), a prefill at its end
    not counted. None: a token or text prompt, which has no messages; then only tokens count."""
    loose: bool = False
    """The match holds only loosely."""
    cut: bool = False
    """The request asks for its prompt to be cut, or its messages leave out the beginning of an earlier request's."""
    system_changed: bool = False
    """The leading system messages are not those of the session's last request."""
    engine_rendered: bool = False
    """The session is exact, but this call's prompt had to be left to the engine."""


class Boundary(msgspec.Struct, frozen=True):
    """Where a prompt goes on from, as the record states it."""

    parent: Node | None
    keep: int
    verdict: Verdict
    reason: Reason | None


def place(tree: CallTree, prompt: bytes, *, matched: Node | None, facts: Facts) -> Boundary:
    """The whole boundary of [P] `prompt`: what it keeps, of which node, and what is said of that.

    `matched`: the node that the request's messages continue; None: none does.
    """
    if matched is not None and facts.replies == 0 and _kept(tree, prompt, matched, None, 0):
        return Boundary(matched, matched.path_tokens, "exact", None)
    if matched is None and (facts.replies == 0 or len(tree) == 0):
        return Boundary(None, 0, "root", None)  # as judge has it, whatever the prompt shares with others
    parent, keep = tree.longest_prefix(prompt)
    if matched is not None and not _kept(tree, prompt, matched, parent, keep):
        parent, keep = matched, tree.shared(matched, prompt)
    verdict, reason = judge(tree, prompt, parent=parent, keep=keep, matched=matched, facts=facts)
    if verdict == "root" or keep == 0:
        parent, keep = None, 0
    return Boundary(parent, keep, verdict, reason)


def judge(
    tree: CallTree, prompt: bytes, *, parent: Node | None, keep: int, matched: Node | None, facts: Facts
) -> tuple[Verdict, Reason | None]:
    """The verdict for [P] `prompt`, of which the first `keep` tokens are the path's of `parent`; the tables above."""
    if matched is not None and not _kept(tree, prompt, matched, parent, keep):
        return "branch", _why(matched, tree.shared(matched, prompt), count(prompt), facts)
    if len(tree) == 0 or (matched is None and facts.replies == 0):
        return "root", None
    if facts.replies == 0 or (parent is not None and keep == parent.path_tokens):
        return "exact", None
    if parent is not None and parent.prompt_tokens <= keep and parent.prompt_tokens < count(prompt):
        return "branch", "truncated" if facts.cut else "edited"
    return ("branch", _why_not_matched(parent, facts)) if facts.replies else ("root", None)


def _kept(tree: CallTree, prompt: bytes, matched: Node, parent: Node | None, keep: int) -> bool:
    """Whether the prompt begins with the path of the matched node, or of another sample that reads the same."""
    if parent is not None and keep == parent.path_tokens and parent.reply_key == matched.reply_key:
        return True
    return tree.begins(matched, prompt)


def _why(matched: Node, shared: int, prompt_tokens: int, facts: Facts) -> Reason:
    """The reason for parting from `matched`, with which the prompt shares `shared` tokens."""
    if facts.cut or shared == prompt_tokens:
        return "truncated"
    if matched.tools_digest != facts.tools_digest:
        return "tools_changed"
    parted = _owner(matched, shared)
    inside = shared >= parted.prompt_tokens
    if inside and parted.reasoning_digest:
        return "reasoning_stripped"
    if inside and parted.finish_reason == "tool_calls":
        return "tool_reserialised"
    if facts.loose:
        return "edited"
    return "engine_rendered" if facts.engine_rendered else "template"


def _owner(node: Node, position: int) -> Node:
    """The call on the node's way from the root that put the token at `position` there."""
    while node.parent is not None and position < node.keep:
        node = node.parent
    return node


def _why_not_matched(parent: Node | None, facts: Facts) -> Reason:
    if facts.cut:
        return "truncated"
    if facts.system_changed:
        return "system_changed"
    if parent is not None and parent.tools_digest != facts.tools_digest:
        return "tools_changed"
    return "edited"
