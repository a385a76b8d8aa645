"""Think blocks of earlier turns, and headers that begin an answer otherwise than it is written later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moorage.engines.rendering.checking.finding import Example, Finding, Outcome
from moorage.engines.rendering.checking.growth import grows
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, ASKED_AGAIN, MARK, Subject, answer
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.template import TemplateFault

__all__ = ["headers", "last_turns", "reasoning", "thoughts"]

THOUGHT, SAID = "one plus one makes two", "Two."
SWITCHES: tuple[Mapping[str, Any], ...] = (
    {},
    {"enable_thinking": False},
    {"enable_thinking": True},
    {"thinking": False},
    {"thinking": True},
)
"""What clients write into `chat_template_kwargs` to turn thinking on and off."""


def thoughts(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`thoughts_stripped`: a think block in the content of an earlier turn is left out."""
    sampled, content = voice.thought(THOUGHT, SAID)
    prompt = subject.tried([ASKED])
    rendered = subject.tried([ASKED, answer(content), ASKED_AGAIN])
    if prompt is None or rendered is None or THOUGHT in rendered:
        return
    end = subject.tokenizer.decode(sampled[-1:], skip_special=False)
    yield Finding(
        "thoughts_stripped",
        effect="none",
        title="Think blocks of earlier turns are left out when the next user speaks.",
        does="With `preserve_think_blocks` (the default) sampled thoughts stay, id for id, and every turn goes on "
        "exactly. With `preserve_think_blocks: false` the turn is rendered as the template has it: a branch, "
        "`reasoning_stripped`.",
        advice="Leave `preserve_think_blocks` on to train on whole sessions; turn it off where the model was trained "
        "without earlier thoughts, and train on each branch.",
        example=parting(
            subject.tokenizer,
            ("what was sampled", prompt + content + end),
            ("what the next request writes", rendered),
        ),
        outcomes=_both(subject, sampled, answer(content)),
    )


def reasoning(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`reasoning_unread`: what a message carries beside its content is not written, though a think block within is."""
    _, content = voice.thought(THOUGHT, SAID)
    inside = subject.tried([ASKED, answer(content), ASKED_AGAIN])
    beside = subject.tried([ASKED, answer(SAID, reasoning=THOUGHT), ASKED_AGAIN])
    if inside is None or beside is None or THOUGHT not in inside or THOUGHT in beside:
        return
    sampled, _ = voice.thought(THOUGHT, SAID)
    yield Finding(
        "reasoning_unread",
        effect="none",
        title="Reasoning that a message carries beside its content is not written.",
        does="With `preserve_think_blocks` (the default) sampled reasoning stays in the ids, whether the client sends "
        "it back or not. With `false` such a turn is rendered without it: a branch, `reasoning_stripped`.",
        advice="Leave `preserve_think_blocks` on if this model thinks and the session has a reasoning parser.",
        example=parting(subject.tokenizer, ("in the content", inside), ("beside it", beside)),
        outcomes=_both(subject, sampled, answer(SAID, reasoning=THOUGHT)),
    )


def headers(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`generation_prompt_differs`: the header that a model is given is not that of its turn as it is written later."""
    if grows(subject) is not None:
        return
    for switch in SWITCHES:
        example = _header(subject, switch)
        if example is None or (switch and _same_as_default(subject, switch)):
            continue
        outcome = _turns(subject, voice, switch)
        named = ", ".join(f"{name}: {str(value).lower()}" for name, value in switch.items())
        yield Finding(
            "generation_prompt_differs",
            effect="none",
            title="The header that a model answers after is not what stands before the answer when it is written later"
            + (f" (with {named})." if named else "."),
            does="Keeps the header that the model was given, and goes on exactly.",
            advice="Train on the ids of the session and not on a new render of its messages: the two differ here.",
            example=example,
            outcomes=[outcome],
        )
        if not switch:
            return


def last_turns(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`last_turn_differs`: an answer at the end of the conversation begins otherwise than one that was answered."""
    earlier, last = _earlier(subject, {}), _last(subject, {})
    if earlier is None or last is None or earlier == last or grows(subject) is not None:
        return
    session, reply = Rehearsal(subject), answer(SAID)
    session.take([ASKED], voice.says(SAID), reply)
    yield Finding(
        "last_turn_differs",
        effect="none",
        title="The last answer is written with another beginning than an earlier one.",
        does="Keeps what the model was given and sampled, in the last turn and in every earlier one.",
        advice="Train on the ids of the session and not on a render of its messages, which has tokens that nobody "
        "sampled.",
        example=parting(subject.tokenizer, ("as an earlier turn", earlier), ("as the last message", last)),
        outcomes=[session.outcome("the second turn", [ASKED, reply, ASKED_AGAIN])],
    )


def _header(subject: Subject, switch: Mapping[str, Any]) -> Example | None:
    """The header as it is given, and where an earlier turn, or the last message, is written after another one."""
    given = subject.tried([ASKED], extra=switch)
    if given is None:
        return None
    for label, before in (
        ("as an earlier turn", _earlier(subject, switch)),
        ("as the last message", _last(subject, switch)),
    ):
        if before is not None and not before.startswith(given):
            return parting(subject.tokenizer, ("what the model is given", given), (label, before))
    return None


def _earlier(subject: Subject, switch: Mapping[str, Any]) -> str | None:
    """What stands before an answer that a user answered; None: that cannot be told."""
    around = subject.around([ASKED, answer(MARK), ASKED_AGAIN], extra=switch)
    return None if around is None else around[0]


def _last(subject: Subject, switch: Mapping[str, Any]) -> str | None:
    """What stands before an answer that nobody answered yet."""
    text = subject.tried([ASKED, answer(MARK)], generate=False, extra=switch)
    return None if text is None or text.count(MARK) != 1 else text.partition(MARK)[0]


def _same_as_default(subject: Subject, switch: Mapping[str, Any]) -> bool:
    return subject.tried([ASKED], extra=switch) == subject.tried([ASKED])


def _turns(subject: Subject, voice: Voice, switch: Mapping[str, Any]) -> Outcome:
    session, reply = Rehearsal(subject, extra=switch), answer(SAID)
    try:
        session.take([ASKED], voice.says(SAID), reply)
    except TemplateFault:
        return Outcome("the second turn", "refused")
    return session.outcome("the second turn", [ASKED, reply, ASKED_AGAIN])


def _both(subject: Subject, sampled: list[int], reply: dict[str, Any]) -> list[Outcome]:
    outcomes = []
    for keeps in (True, False):
        session = Rehearsal(subject, preserve_think_blocks=keeps)
        session.take([ASKED], sampled, reply)
        case = f"preserve_think_blocks: {str(keeps).lower()}"
        outcomes.append(session.outcome(case, [ASKED, reply, ASKED_AGAIN]))
    return outcomes
