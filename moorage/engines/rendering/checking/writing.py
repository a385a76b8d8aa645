"""What becomes of white space and letters: in what a model said, and in what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moorage.engines.rendering.checking.finding import Example, Finding
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, ASKED_AGAIN, MARK, SYSTEM, Subject, answer, call, result
from moorage.engines.rendering.checking.voice import Voice

__all__ = ["changes", "inputs", "normaliser", "trims", "unwritten"]

SPACE = "\n\n \n"
LETTERS = 'Two,  or\r\n ZWEI\tcafe\u0301 \u2126 <b> & "x" {{ y }}'
"""Capitals, double spaces, line ends, letters in two forms, and what escapes change."""


def unwritten(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`messages_unwritten`: what some role says is not in the prompt at all."""
    said = {
        "system": [{"role": "system", "content": MARK}, ASKED],
        "user": [{"role": "user", "content": MARK}],
        "earlier user": [{"role": "user", "content": MARK}, answer("Two."), ASKED_AGAIN],
        "assistant": [ASKED, answer(MARK), ASKED_AGAIN],
    }
    texts = {role: subject.tried(messages) for role, messages in said.items()}
    missing = [role for role, text in texts.items() if text is not None and MARK not in text]
    if not missing:
        return
    session, reply = Rehearsal(subject), answer("Two.")
    session.take([ASKED], voice.says("Two."), reply)
    outcome = session.outcome("the second turn", [ASKED, reply, ASKED_AGAIN])
    yield Finding(
        "messages_unwritten",
        effect="none",
        title=f"What is said is not written: {', '.join(missing)}.",
        does="Sends what the template writes, as the engine would.",
        advice="The model never sees such messages: use another template.",
        example=parting(subject.tokenizer, ("what was said", MARK), ("what is written", texts[missing[0]] or "")),
        outcomes=[outcome],
    )


def trims(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`content_trimmed`: white space around what was said is left out of earlier turns."""
    found = _written(subject, answer(SPACE + MARK + SPACE))
    if found is None or found[0] == found[1] or _squeezed(found[0]) != _squeezed(found[1]):
        return
    said = f"{SPACE}Two.{SPACE}"
    session, reply = Rehearsal(subject), answer(said)
    session.take([ASKED], voice.says(said), reply)
    trimmed = session.outcome("sent back trimmed", [ASKED, answer("Two."), ASKED_AGAIN])
    yield Finding(
        "content_trimmed",
        effect="none",
        title="White space at the ends of an earlier answer is left out.",
        does="Keeps the ids as they were sampled. "
        + (
            "A client that trims what it sends back is understood too: the template sees no difference."
            if trimmed.verdict == "exact"
            else "A client that trims more than the template does has edited the turn: a branch, `edited`."
        ),
        advice="Train on the ids of the session: a new render of its messages lacks the white space.",
        example=_example(subject, found),
        outcomes=[
            session.outcome("sent back as it was", [ASKED, reply, ASKED_AGAIN]),
            trimmed,
        ],
    )


def changes(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`content_changed`: an earlier answer is written with other letters than it was said with."""
    found = _written(subject, answer(f"{MARK} {LETTERS} {MARK}"))
    if found is None or found[0] == found[1]:
        return
    session, reply = Rehearsal(subject), answer(LETTERS)
    session.take([ASKED], voice.says(LETTERS), reply)
    outcome = session.outcome("sent back as it was", [ASKED, reply, ASKED_AGAIN])
    yield Finding(
        "content_changed",
        effect="none",
        title="An earlier answer is written with other letters or spaces than it was said with.",
        does="Keeps the ids as they were sampled.",
        advice="Train on the ids of the session: a new render of its messages is another text.",
        example=_example(subject, found),
        outcomes=[outcome],
    )


def inputs(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`input_changed`: what users, systems and tools say is trimmed or written otherwise."""
    del voice
    name = subject.tool_name
    loop = [ASKED, call(name, "{}"), result(name)]
    cases: dict[str, tuple[list[Any], int, bool]] = {
        "user": ([ASKED], 0, False),
        "system": ([SYSTEM, ASKED], 0, False),
        "tool": (loop, 2, True),
    }
    examples = {}
    for role, (messages, at, tools) in cases.items():
        found = _told(subject, messages, at, f"{SPACE}{MARK}{SPACE}", tools=tools)
        if found is not None and found[0] != found[1]:
            examples[role] = _example(subject, found)
    if not examples:
        return
    yield Finding(
        "input_trimmed",
        effect="none",
        title=f"White space at the ends of what is told is left out: {', '.join(examples)}.",
        does="Sends what the template writes, as the engine would. Messages that differ in that alone are different "
        "messages to a session.",
        advice="Nothing to do; outer white space in prompts reaches no model with this template.",
        example=next(iter(examples.values())),
    )


def normaliser(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`tokenizer_normalises`: the tokenizer gives a text's ids, and those are another text."""
    tokenizer = subject.tokenizer
    back = tokenizer.decode(tokenizer.encode(LETTERS), skip_special=False)
    if back == LETTERS:
        return
    session, reply = Rehearsal(subject), answer(LETTERS)
    session.take([ASKED], voice.says(LETTERS), reply)
    yield Finding(
        "tokenizer_normalises",
        effect="none",
        title="The tokenizer changes letters before it encodes them, so some texts have no ids of their own.",
        does="Keeps the ids as they were sampled; only text that is new to the session is changed.",
        advice="Compare ids and not texts.",
        example=parting(tokenizer, ("a text", LETTERS), ("the text of its ids", back)),
        outcomes=[session.outcome("sent back as it was", [ASKED, reply, ASKED_AGAIN])],
    )


def _written(subject: Subject, reply: dict[str, Any]) -> tuple[str, str] | None:
    return _told(subject, [ASKED, reply, ASKED_AGAIN], 1, str(reply["content"]))


def _told(
    subject: Subject, messages: list[Any], at: int, content: str, *, tools: bool = False
) -> tuple[str, str] | None:
    """(the text if the template wrote `content` as it is, the text that it writes); None: it cannot be told.

    What it writes around a plain word shows where it writes content at all; a tool's may be written as JSON.
    """
    plain = [*messages[:at], {**messages[at], "content": MARK}, *messages[at + 1 :]]
    around = subject.around(plain, tools=tools)
    real = subject.tried([*messages[:at], {**messages[at], "content": content}, *messages[at + 1 :]], tools=tools)
    if around is None or real is None:
        return None
    before, after = around
    if before.endswith('"') and after.startswith('"'):
        content = content.replace("\n", "\\n")
    return before + content + after, real


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _example(subject: Subject, found: tuple[str, str]) -> Example:
    return parting(subject.tokenizer, ("as it was said", found[0]), ("as it is written", found[1]))
