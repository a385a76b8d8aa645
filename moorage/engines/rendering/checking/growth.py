"""Whether what was written before stays, and whether what comes after can be cut out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moorage.engines.rendering.checking.finding import Example, Finding
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import (
    ASKED,
    ASKED_AGAIN,
    MARK,
    SYSTEM,
    Messages,
    Subject,
    answer,
)
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.tail import window_of, without_thoughts

__all__ = ["far_history", "grows", "history", "system_moved", "tails", "tools_moved"]

FAR_TURNS = 7


def grows(subject: Subject, *, system: bool = False, tools: bool = False) -> Example | None:
    """The prompt of the first turn and the beginning of the second's, if the one is not the beginning of the other.

    None: it is, think blocks apart; also when the template takes no such conversation.
    """
    first = [*([SYSTEM] if system else []), ASKED]
    second = [*first, answer("One."), ASKED_AGAIN]
    before, after = subject.tried(first, tools=tools, generate=False), subject.tried(second, tools=tools)
    if before is None or after is None or without_thoughts(after).startswith(without_thoughts(before)):
        return None
    return parting(subject.tokenizer, ("the first request", before), ("the second request", after))


def history(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`history_rewritten`: a plain chat's beginning changes as it grows."""
    example = grows(subject)
    if example is None:
        return
    yield Finding(
        "history_rewritten",
        effect="every_turn",
        title="What was written for earlier messages changes with each message that follows.",
        does="Renders every turn whole, around the sampled turns where their bounds are proven: a branch each time.",
        advice="Use passthrough: this template leaves no turn the tokens that it was sampled with.",
        example=example,
        outcomes=[_second_turn(subject, voice)],
    )


def system_moved(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`system_moved`: the system message does not stay where it was written first."""
    example = grows(subject, system=True)
    if example is None or grows(subject) is not None:
        return
    yield Finding(
        "system_moved",
        effect="branch",
        title="The system message is written at another place in each turn.",
        does="Each turn is rendered anew around the sampled turns, which keep their ids: a branch, `template`.",
        advice="Put the instructions into the first user's message, which stays where it is.",
        example=example,
        outcomes=[_second_turn(subject, voice, system=True)],
    )


def tools_moved(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`tools_moved`: the list of tools does not stay where it was written first."""
    example = grows(subject, tools=True)
    if example is None or grows(subject) is not None:
        return
    yield Finding(
        "tools_moved",
        effect="branch",
        title="The list of tools is written at another place whenever a user speaks again.",
        does="Calls and their results go on exactly; the next question is rendered anew around the sampled turns, "
        "which keep their ids: a branch, `template`.",
        advice="Let one question be one session, or describe the tools in the first user's message.",
        example=example,
        outcomes=[_second_turn(subject, voice, tools=True)],
    )


def tails(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`tail_unproven`: what follows an answer begins with no special token."""
    around = subject.around([ASKED, answer(MARK), ASKED_AGAIN])
    if around is None:
        return
    before, after = around
    ids = subject.tokenizer.encode(after)
    if not ids or ids[0] in subject.tokenizer.atomic_ids:
        return
    yield Finding(
        "tail_unproven",
        effect="every_turn",
        title="What follows an answer begins with no special token, so nothing proves where the answer's tokens end.",
        does="Renders every turn whole and encodes sampled text again: a branch each time, `unproven_tail`.",
        advice="Use passthrough, or end the assistant's turns in the template with a special token.",
        example=_seam(subject, before, after),
        outcomes=[_second_turn(subject, voice)],
    )


def far_history(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`far_history`: a turn's tail depends on messages far back, so no short window gives it."""
    chats = [subject.traits(system=system, tools=tools).window for system in (False, True) for tools in (False, True)]
    if None not in chats or grows(subject) is not None:
        return
    if any(True for _ in tails(subject, voice)):
        return
    tools = subject.traits().window is not None
    yield Finding(
        "far_history",
        effect="render",
        title="What is written for a new message depends on messages far before it.",
        does="Goes on exactly, but renders the whole conversation for each turn: longer ones take longer.",
        advice="Expect the cost of a turn to grow with its session; nothing else changes.",
        example=_window_example(subject, tools=tools),
        outcomes=[_second_turn(subject, voice, tools=tools)],
    )


def _second_turn(subject: Subject, voice: Voice, *, system: bool = False, tools: bool = False) -> Any:
    session = Rehearsal(subject, tools=tools)
    messages = [*([SYSTEM] if system else []), ASKED]
    reply = answer("Two.")
    session.take(messages, voice.says("Two.", tools=tools), reply)
    return session.outcome("the second turn", [*messages, reply, ASKED_AGAIN])


def _seam(subject: Subject, before: str, after: str) -> Example:
    """An answer whose ids change with what follows it, if there is one that is easy to find."""
    encode = subject.tokenizer.encode
    for said in ("Two", "Two.", "Two ", "Two\n", "Two:", "Two A"):
        if encode(said + after)[: len(encode(said))] != encode(said):
            break
    else:
        said = "Two"
    return parting(
        subject.tokenizer, ("the answer as it was sampled", before + said), ("with what follows", before + said + after)
    )


def _window_example(subject: Subject, *, tools: bool) -> Example | None:
    """A tail from a window and the one that stands there."""
    messages: list[Any] = [ASKED]
    for turn in range(FAR_TURNS):
        messages += [answer(f"Answer {turn}."), {"role": "user", "content": f"And {turn}?"}]
    at = len(messages) - 2
    window = window_of(messages, at, 2)
    if window is None:
        return None
    short = _tail_text(subject, *window, tools=tools)
    whole = _tail_text(subject, messages, at, tools=tools)
    if short is None or whole is None or short == whole:
        return None
    return parting(subject.tokenizer, ("after the last turns alone", short), ("after the whole conversation", whole))


def _tail_text(subject: Subject, messages: Messages, at: int, *, tools: bool) -> str | None:
    ids = subject.tail(messages, at, tools=tools)
    return None if ids is None else subject.tokenizer.decode(ids, skip_special=False)
