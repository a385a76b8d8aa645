"""Ordinary sessions, rehearsed: chats, with a system message and without, and loops of tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from moorage.engines.rendering.ask import PromptPlan
from moorage.engines.rendering.checking.finding import Finding, Outcome, SessionRow
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, SYSTEM, Subject, answer, call, result
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.template import TemplateFault

__all__ = ["rehearsed"]

TURNS = 4
ARGUMENTS = '{"b": "x y", "a": [1, 2]}'


class _Turn(msgspec.Struct, frozen=True):
    sampled: list[int]
    reply: dict[str, Any]
    following: list[dict[str, Any]]


def rehearsed(subject: Subject, voice: Voice) -> tuple[list[SessionRow], Finding | None]:
    """Every ordinary session, as it goes with this template, and `turns_branch` for the first turn that is a branch.

    A session that is refused ends there.
    """
    chat, loop, mixed = list(_chat(voice)), list(_loop(subject, voice)), list(_mixed(subject, voice))
    several = [
        _session(subject, "chat", chat, system=False, tools=False),
        _session(subject, "chat with a system message", chat, system=True, tools=False),
        _session(subject, "tool calls", loop, system=False, tools=True),
        _session(subject, "tool calls with a system message", loop, system=True, tools=True),
        _session(subject, "questions with tools", mixed, system=False, tools=True),
    ]
    return [row for row, _ in several], next((found for _, found in several if found is not None), None)


def _session(
    subject: Subject, name: str, turns: list[_Turn], *, system: bool, tools: bool
) -> tuple[SessionRow, Finding | None]:
    session = Rehearsal(subject, tools=tools)
    messages: list[dict[str, Any]] = [*([SYSTEM] if system else []), ASKED]
    outcomes: list[Outcome] = []
    found: Finding | None = None
    for number, turn in enumerate([*turns, None], 1):
        case = f"request {number}"
        try:
            plan = session.plan(messages)
        except TemplateFault:
            return SessionRow(name, [*outcomes, Outcome(case, "refused")]), found
        outcomes.append(Outcome(case, plan.verdict, plan.reason))
        if plan.verdict == "branch" and found is None:
            found = _branch(subject, session, plan, name, outcomes[-1])
        if turn is not None:
            session.commit(messages, plan, turn.sampled, turn.reply)
            messages = [*messages, turn.reply, *turn.following]
    return SessionRow(name, outcomes), found


def _branch(subject: Subject, session: Rehearsal, plan: PromptPlan, name: str, outcome: Outcome) -> Finding:
    """For a branch that nothing else explains."""
    return Finding(
        "turns_branch",
        effect="branch",
        title=f"Turns of an ordinary session ({name}) are written otherwise than they went on.",
        does=f"Renders them anew around the sampled turns: a branch, `{outcome.reason}`.",
        advice="Look at the place where the two texts part; use passthrough if it is every turn.",
        example=parting(
            subject.tokenizer,
            ("the call that is continued", session.continued(plan)),
            ("the next request", session.text(plan)),
        ),
        outcomes=[outcome],
    )


def _chat(voice: Voice) -> Iterator[_Turn]:
    for turn in range(TURNS):
        text = f"Answer {turn}."
        yield _Turn(voice.says(text), answer(text), [{"role": "user", "content": f"And {turn}?"}])


def _loop(subject: Subject, voice: Voice) -> Iterator[_Turn]:
    name = subject.tool_name
    for turn in range(TURNS):
        yield _Turn(
            voice.calls(ARGUMENTS, respelt=True),
            call(name, '{"a":[1,2],"b":"x y"}', first_id=turn),
            [result(name, f"Result {turn}.", turn)],
        )


def _mixed(subject: Subject, voice: Voice) -> Iterator[_Turn]:
    """A call, its answer, and questions after it."""
    yield next(_loop(subject, voice))
    yield from _chat(voice)
