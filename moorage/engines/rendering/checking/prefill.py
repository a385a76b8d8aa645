"""Answers that a client has begun, and the model goes on with (`continue_final_message`)."""

from __future__ import annotations

from collections.abc import Iterator

from moorage.engines.rendering.checking.finding import Finding, Outcome
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, Subject, answer
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.template import TemplateFault

__all__ = ["prefills"]

BEGUN = "It is "


def prefills(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`prefill_refused`, `prefill_trimmed`, `prefill_opened_otherwise`."""
    del voice
    messages = [ASKED, answer(BEGUN)]
    session = Rehearsal(subject)
    try:
        plan = session.plan(messages, continue_final_message=True, add_generation_prompt=False)
    except TemplateFault as fault:
        yield Finding(
            "prefill_refused",
            effect="refused",
            title=f"An answer cannot be begun for the model: {fault.message}",
            does="Answers 400 `template_failed` to `continue_final_message`.",
            advice="Use a text completion for answers that are begun.",
            outcomes=[Outcome("continue_final_message", "refused")],
        )
        return
    text, header = session.text(plan), subject.text([ASKED])
    outcome = Outcome("continue_final_message", plan.verdict, plan.reason)
    if not text.endswith(BEGUN):
        yield Finding(
            "prefill_trimmed",
            effect="none",
            title="White space at the end of a begun answer is left out.",
            does="Goes on without it, as transformers and vLLM do.",
            advice="Let begun answers end with a letter.",
            example=parting(subject.tokenizer, ("as it was begun", header + BEGUN), ("as it is written", text)),
            outcomes=[outcome],
        )
    if not text.startswith(header):
        yield Finding(
            "prefill_opened_otherwise",
            effect="none",
            title="A begun answer stands after another header than the one that a model answers after.",
            does="Sends what the template writes for it, as the engine would.",
            advice="Begin the answer with what the header lacks, if the model was trained with it.",
            example=parting(subject.tokenizer, ("the header", header), ("before a begun answer", text)),
            outcomes=[outcome],
        )
