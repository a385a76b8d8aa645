"""Everything that can be tried with a template, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from moorage.engines.rendering.checking.calls import call_contents, calls, parallel, respelt, tools
from moorage.engines.rendering.checking.dates import dates
from moorage.engines.rendering.checking.ends import (
    begins,
    call_ends,
    named_templates,
    speaker_ends,
    special_texts,
    turn_ends,
)
from moorage.engines.rendering.checking.finding import Finding, Report, SessionRow, Verdict
from moorage.engines.rendering.checking.growth import far_history, history, system_moved, tails, tools_moved
from moorage.engines.rendering.checking.prefill import prefills
from moorage.engines.rendering.checking.roles import invented, midway, parts, refused
from moorage.engines.rendering.checking.sessions import rehearsed
from moorage.engines.rendering.checking.subject import ASKED, Subject
from moorage.engines.rendering.checking.thinking import headers, last_turns, reasoning, thoughts
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.checking.writing import changes, inputs, normaliser, trims, unwritten
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["CHECKS", "check_template"]

Check = Callable[[Subject, Voice], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    history,
    tails,
    tools_moved,
    system_moved,
    midway,
    speaker_ends,
    far_history,
    unwritten,
    thoughts,
    reasoning,
    headers,
    last_turns,
    respelt,
    call_contents,
    trims,
    changes,
    normaliser,
    dates,
    invented,
    refused,
    tools,
    calls,
    parallel,
    prefills,
    begins,
    turn_ends,
    call_ends,
    inputs,
    parts,
    special_texts,
)
"""In the order in which findings are told: what costs most comes first."""


def check_template(
    tokenizer: Tokenizer,
    source: str,
    *,
    others: Mapping[str, str] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    tools: Sequence[Any] | None = None,
    now: datetime,
) -> Report:
    """Try the template `source` with this tokenizer.

    `others`: templates of the same model by name; `kwargs`: `chat_template_kwargs` of every request; `tools`: OpenAI
    tools, None for a made-up one; `now`: what a template that writes the time is told. Raises TemplateFault when the
    template takes not even a user's question, or writes nothing for it.
    """
    subject = Subject(tokenizer, ChatTemplate(source, tokenizer.named), kwargs=kwargs, tools=tools, now=now)
    if not tokenizer.encode_whole(subject.text([ASKED])):
        raise TemplateFault("it writes nothing for a user's question")
    voice = Voice(subject)
    findings = [finding for check in CHECKS for finding in check(subject, voice)]
    findings += named_templates(subject, others or {})
    sessions, unexplained = rehearsed(subject, voice)
    always = _always_branches(sessions)
    findings = [_weighed(finding, always=always) for finding in findings]
    if unexplained is not None and not any(finding.effect in ("branch", "every_turn") for finding in findings):
        findings.insert(0, unexplained)
    verdict = _verdict(findings, sessions)
    return Report(verdict, _summary(verdict, findings), findings, sessions)


def _verdict(findings: Sequence[Finding], sessions: Sequence[SessionRow]) -> Verdict:
    if _always_branches(sessions):
        return "engine"
    branched = any(turn.verdict == "branch" for row in sessions for turn in row.turns)
    parts = branched or any(finding.effect in ("branch", "every_turn", "passthrough") for finding in findings)
    return "exact with branches" if parts else "exact"


def _always_branches(sessions: Sequence[SessionRow]) -> bool:
    chat = sessions[0].turns[1:]
    return bool(chat) and all(turn.verdict == "branch" for turn in chat)


def _weighed(finding: Finding, *, always: bool) -> Finding:
    """A finding that costs nothing by itself is a branch too where everything is."""
    first = finding.outcomes[0] if finding.outcomes else None
    if finding.effect != "none" or first is None or first.verdict != "branch":
        return finding
    does = f"Renders the turn anew, as every turn with this template: a branch, `{first.reason}`."
    if not always:
        does = f"Renders the turn anew around what was sampled: a branch, `{first.reason}`."
    return msgspec.structs.replace(finding, effect="every_turn" if always else "branch", does=does)


def _summary(verdict: Verdict, findings: Sequence[Finding]) -> str:
    if verdict == "engine":
        return "Every turn of a plain chat is a branch: let the engine render (mode passthrough)."
    if verdict == "exact":
        return "Every turn goes on with the very ids of the turn before it."
    codes = [finding.code for finding in findings if finding.effect in ("branch", "every_turn", "passthrough")]
    return f"Turns go on exactly, but for: {', '.join(codes) or 'see the sessions below'}."
