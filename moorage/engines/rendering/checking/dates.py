"""Templates that write the time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from moorage.engines.rendering.checking.finding import Finding
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, ASKED_AGAIN, Subject, answer
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.template import TemplateFault

__all__ = ["dates"]


def dates(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`date_in_prompt`."""
    written = _text(subject, subject.now)
    others = {unit: time for unit, time in _other_times(subject.now).items() if _text(subject, time) != written}
    if not others:
        return
    unit, later = next(iter(others.items()))
    session, reply = Rehearsal(subject), answer("Two.")
    session.take([ASKED], voice.says("Two."), reply)
    outcome = session.outcome("the second turn, at another time", [ASKED, reply, ASKED_AGAIN], now=later)
    yield Finding(
        "date_in_prompt",
        effect="none",
        title=f"It writes the {unit}, so the same messages are another prompt at another time.",
        does="Keeps what a session began with; what is rendered anew in a branch has the gateway's own local time.",
        advice="Keep the clocks and time zones of gateway and engine alike.",
        example=parting(subject.tokenizer, ("now", written), ("at another time", _text(subject, later))),
        outcomes=[outcome],
    )


def _other_times(now: datetime) -> dict[str, datetime]:
    """What differs from now in that alone."""
    return {
        "minute": now.replace(minute=(now.minute + 7) % 60),
        "hour": now.replace(hour=(now.hour + 5) % 24),
        "date": now + timedelta(days=40),
    }


def _text(subject: Subject, now: datetime) -> str:
    try:
        return msgspec.structs.replace(subject.scene(), now=now).render(subject.template, [ASKED])
    except TemplateFault:
        return ""
