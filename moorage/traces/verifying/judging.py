"""Verdict and reason of a boundary, judged again from the tokens and from what is kept of the messages.

`moorage.capture.verdict` judges. Some of what it was told when the call was made is not in the record; such a fact is
taken both ways, and where that makes a difference the boundary counts as open, with the fact's name:

| open | because |
| --- | --- |
| the messages are not in the extras | the reason depends on them |
| reason of the template | the gateway rendered this prompt: only its template could say again why it parts |
| whether the prompt was cut | the limit (`--prompt-length`) is a flag of the gateway |
| system messages of the request before | which one was before is the order of arrival, and a restart forgets it |
| whether its last message was to be continued | a beginning of the reply that the client wrote is no reply |
| the session's options | they cannot be read |
| calls in flight at that moment | the session was emptier when it was judged than when the call was committed |
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from moorage.capture.call import Call, Reason, Verdict
from moorage.capture.packing import common_prefix
from moorage.capture.tree import CallTree, Node
from moorage.capture.verdict import Facts, judge
from moorage.traces.verifying.conversations import Said, Saids

__all__ = ["Judgement", "judge_again"]

MESSAGES = "the messages are not in the extras"
TEMPLATE = "reason of the template"
CUT = "whether the prompt was cut"
SYSTEM = "system messages of the request before"
CONTINUED = "whether its last message was to be continued"
OPTIONS = "the session's options"
IN_FLIGHT = "calls in flight at that moment"

PLANNED: frozenset[Reason] = frozenset(("template", "reasoning_stripped", "tools_changed", "unproven_tail"))
"""Reasons that the making of an exact prompt gives, whatever its tokens are."""


class Judgement(msgspec.Struct, frozen=True):
    """`wrong`: field and message; None: nothing is. `open`: what could not be judged; None: it was judged whole."""

    wrong: tuple[str, str] | None = None
    open: str | None = None


def judge_again(tree: CallTree, node: Node, call: Call, saids: Saids, options: dict[str, Any] | None) -> Judgement:
    """`tree` has the calls up to this one. `options`: the session's; None: they cannot be read."""
    record = call.record
    if record.source == "submitted":
        return _submitted(tree, node)
    said = saids.of(call.seq)
    if record.prompt_key and said is None:
        return Judgement(open=None if record.verdict == "exact" else MESSAGES)
    claim = (record.verdict, record.reason)
    outcomes: dict[tuple[Verdict, Reason | None], set[str]] = {}
    for facts, doubts in _facts(call, said, saids, options):
        found = _judged(tree, node, said, facts)
        outcomes[found] = outcomes[found] & doubts if found in outcomes else doubts
    if claim in outcomes:
        return Judgement(open=next(iter(sorted(outcomes[claim])), None) if len(outcomes) > 1 else None)
    return _otherwise(node, call, said, outcomes)


def _submitted(tree: CallTree, node: Node) -> Judgement:
    """A submitted step goes on from the call before it, as far as the two agree."""
    before = tree.node(node.seq - 1) if node.seq else None
    keep = 0 if before is None else common_prefix(tree.path(before), tree.prompt(node))
    verdict: Verdict = "root" if not keep or before is None else "exact" if keep == before.path_tokens else "branch"
    if node.verdict != verdict:
        return Judgement(("verdict", f"{node.verdict}, but its tokens say {verdict}"))
    if node.keep != keep:
        return Judgement(("keep", f"{node.keep} tokens, but it agrees with the step before in {keep}"))
    return Judgement()


def _facts(
    call: Call, said: Said | None, saids: Saids, options: dict[str, Any] | None
) -> Iterator[tuple[Facts, set[str]]]:
    """What the judge may have been told; with each, the names of what is not sure in it."""
    record = call.record
    exact = record.mode == "exact"
    replies = {None} if said is None else _replies(said, passthrough=not exact)
    systems = {False} if said is None else _system_changed(call, said, saids)
    cuts = {False, True} if exact and record.reason == "truncated" else {False}
    left = {False} if exact else {False, True} if options is None else {options.get("mode") == "exact"}
    several = ((cuts, CUT), (systems, SYSTEM), (replies, CONTINUED), (left, OPTIONS))
    doubts = {name for values, name in several if len(values) > 1}
    for cut, system, answered, engine in itertools.product(cuts, systems, replies, left):
        facts = Facts(
            tools_digest=record.tools_digest,
            replies=answered,
            loose=said is not None and said.loose and not exact,
            cut=cut,
            system_changed=system,
            engine_rendered=engine,
        )
        yield facts, doubts


def _replies(said: Said, *, passthrough: bool) -> set[int | None]:
    """Assistant messages that no call accounts for. One at the end may be the beginning of a reply, which is none."""
    roles = [message.get("role") for message in said.new]
    without_last = roles[:-1].count("assistant")
    return {without_last} if passthrough else {without_last, roles.count("assistant")}


def _system_changed(call: Call, said: Said, saids: Saids) -> set[bool]:
    others = saids.system_keys(call.seq)
    if not others or (others == {said.system_key} and said.system_key is not None):
        return {False}
    return {False, True}


def _judged(tree: CallTree, node: Node, said: Said | None, facts: Facts) -> tuple[Verdict, Reason | None]:
    prompt = tree.prompt(node)
    matched = said.matched if said is not None else None
    if not _earlier(tree, node) and matched is None:
        return "root", None  # the session was empty
    return judge(tree, prompt, parent=node.parent, keep=node.keep, matched=matched, facts=facts)


def _earlier(tree: CallTree, node: Node) -> bool:
    """Whether the session had a call of another request."""
    first = node.seq
    while first and tree.node(first - 1).request_id == node.request_id:
        first -= 1
    return first > 0


def _otherwise(
    node: Node, call: Call, said: Said | None, outcomes: dict[tuple[Verdict, Reason | None], set[str]]
) -> Judgement:
    """The claim is none of the outcomes: is it wrong, or could it have come from what is not known?"""
    record = call.record
    verdicts = {verdict for verdict, _ in outcomes}
    if record.verdict == "root" and node.seq and (said is None or said.matched is None):
        return Judgement(open=IN_FLIGHT)
    if record.mode == "exact" and record.verdict == "branch" and "branch" in verdicts and record.reason in PLANNED:
        same_tools = said is not None and said.matched is not None and said.matched.tools_digest == record.tools_digest
        if record.reason == "tools_changed" and same_tools:
            return Judgement(("reason", "tools_changed, but the tools are those of the call it continues"))
        return Judgement(open=TEMPLATE)
    named = " or ".join(sorted(verdict if reason is None else f"{verdict} ({reason})" for verdict, reason in outcomes))
    claimed = record.verdict if record.reason is None else f"{record.verdict} ({record.reason})"
    field = "reason" if record.verdict in verdicts else "verdict"
    return Judgement((field, f"{claimed}, but judged again it is {named}"))
