"""Who may speak when, and what a template writes that nobody said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from moorage.engines.rendering.checking.finding import Finding, Outcome
from moorage.engines.rendering.checking.growth import grows
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, ASKED_AGAIN, MARK, SYSTEM, Subject, answer
from moorage.engines.rendering.checking.voice import Voice

__all__ = ["invented", "midway", "parts", "refused"]


class _Order(msgspec.Struct, frozen=True):
    code: str
    what: str
    messages: list[dict[str, Any]]
    advice: str


ORDERS = (
    _Order("system_refused", "a system message", [SYSTEM, ASKED], "Put the instructions into the user's message."),
    _Order(
        "consecutive_users_refused",
        "two user's messages in a row",
        [ASKED, ASKED_AGAIN],
        "Join neighbouring messages of a role before they are sent.",
    ),
    _Order(
        "consecutive_assistants_refused",
        "two assistant's messages in a row",
        [ASKED, answer("One."), answer("Two."), ASKED_AGAIN],
        "Join neighbouring messages of a role before they are sent.",
    ),
    _Order(
        "assistant_first_refused",
        "a conversation that the assistant begins",
        [answer("Hello."), ASKED],
        "Begin with a user's message.",
    ),
    _Order("empty_content_refused", "an answer without content", [ASKED, answer(None), ASKED_AGAIN], "Send a text."),
    _Order("system_alone_refused", "a conversation without a user", [SYSTEM], "Send a user's message too."),
)


def refused(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """A finding for each of ORDERS that the template does not take."""
    del voice
    for order in ORDERS:
        refusal = subject.refusal(order.messages)
        if refusal is None or (order.code == "system_alone_refused" and subject.refusal([SYSTEM, ASKED]) is not None):
            continue
        yield Finding(
            code=order.code,
            effect="refused",
            title=f"The template refuses {order.what}: {refusal}",
            does="Answers 400 `template_failed`, with the template's own words; the session stays as it was.",
            advice=order.advice,
            outcomes=[Rehearsal(subject).outcome(order.what, order.messages)],
        )


def midway(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`system_midway_moved`, `system_midway_refused`: a system message after the first turn."""
    later = {"role": "system", "content": f"Be {MARK}."}
    reply = answer("Two.")
    messages = [ASKED, reply, later, ASKED_AGAIN]
    refusal = subject.refusal(messages)
    session = Rehearsal(subject)
    session.take([ASKED], voice.says("Two."), reply)
    outcome = session.outcome("a system message after the first turn", messages)
    if refusal is not None:
        if subject.refusal([SYSTEM, ASKED]) is None:
            yield Finding(
                "system_midway_refused",
                effect="refused",
                title=f"The template refuses a system message after the first turn: {refusal}",
                does="Answers 400 `template_failed`, with the template's own words; the session stays as it was.",
                advice="Send later instructions as user's messages.",
                outcomes=[outcome],
            )
        return
    text, before = subject.text(messages), subject.text([ASKED, reply, ASKED_AGAIN])
    in_place = 0 <= text.find("Two.") < text.find(MARK) < text.find(str(ASKED_AGAIN["content"]))
    if grows(subject) is not None or in_place:
        return
    yield Finding(
        "system_midway_moved",
        effect="branch" if outcome.verdict == "branch" else "none",
        title="A system message after the first turn is not written where it stands.",
        does="Renders the conversation anew around the sampled turns, which keep their ids: a branch, `template`."
        if outcome.verdict == "branch"
        else "Goes on exactly: the template leaves it out.",
        advice="Send later instructions as user's messages.",
        example=parting(subject.tokenizer, ("without it", before), ("with it", text)),
        outcomes=[outcome],
    )


def invented(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`system_invented`: text before the first user's message that nobody sent."""
    first = subject.around([{"role": "user", "content": MARK}])
    second = subject.around([ASKED, answer("One."), {"role": "user", "content": MARK}])
    if first is None or second is None:
        return
    head, later = subject.tokenizer.encode_whole(first[0]), subject.tokenizer.encode(second[0].rpartition("One.")[2])
    shared = next((n for n in range(min(len(head), len(later)), 0, -1) if head[-n:] == later[-n:]), 0)
    own = [token_id for token_id in head[: len(head) - shared] if token_id not in subject.tokenizer.atomic_ids]
    if not any(letter.isalpha() for letter in subject.tokenizer.decode(own, skip_special=False)):
        return
    written = subject.tokenizer.decode(head[: len(head) - shared], skip_special=False)
    session, reply = Rehearsal(subject), answer("Two.")
    session.take([ASKED], voice.says("Two."), reply)
    yield Finding(
        "system_invented",
        effect="none",
        title="Text is written before the first message that nobody sent.",
        does="Sends it as the engine would; it stays at the beginning of the session.",
        advice="Send a system message of your own where the template lets it replace this one.",
        example=parting(subject.tokenizer, ("what was sent", ""), ("what stands before it", written)),
        outcomes=[session.outcome("the second turn", [ASKED, reply, ASKED_AGAIN])],
    )


def parts(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`parts_joined`: content in parts reaches the template as one text."""
    del voice
    content = [{"type": "text", "text": "zqone"}, {"type": "text", "text": "zqtwo"}]
    text = subject.tried([{"role": "user", "content": content}])
    plain = subject.tried([{"role": "user", "content": "zqone\nzqtwo"}])
    if text is None or plain is None or text != plain:
        return
    yield Finding(
        "parts_joined",
        effect="none",
        title="The template takes a text and no parts: text parts are joined, with a line end between them.",
        does="Joins them as vLLM does. A message with an image, audio or video part is rendered by the engine: "
        "`engine_rendered`.",
        advice="Send text as one string.",
        outcomes=[Outcome("text parts", "root")],
    )
