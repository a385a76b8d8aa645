"""What a check found: stable codes, an example that shows it, and what a session does about it."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Effect", "Example", "Finding", "Outcome", "Report", "SessionRow", "Side", "Verdict"]

Verdict = Literal["exact", "exact with branches", "engine"]
"""Every turn goes on exactly; so do all but the named cases; none does, so the engine may as well render."""

Effect = Literal["none", "render", "branch", "refused", "every_turn", "passthrough"]
"""What it costs a session: nothing; a whole render each turn; a branch in the cases named; requests that are refused
with 400; a branch at every turn; ids that only the engine can make."""


class Side(msgspec.Struct, frozen=True):
    """One of two texts that part."""

    label: str
    text: str
    ids: list[int]
    """[N] the text as the model's own tokenizer encodes it."""


class Example(msgspec.Struct, frozen=True):
    """Two texts and where they part."""

    left: Side
    right: Side
    character: int | None
    """Where the texts part first; None: they are the same."""
    token: int | None
    """Where the ids part first; None: they are the same."""


class Outcome(msgspec.Struct, frozen=True):
    """What a session did when the case was rehearsed with it."""

    case: str
    verdict: Literal["root", "exact", "branch", "refused"]
    """As the record of the call has it; `refused`: 400 `template_failed`."""
    reason: str | None = None
    """The reason of a branch; None otherwise."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that a template or its tokenizer does."""

    code: str
    """snake_case and stable: docs/templates.md lists them all."""
    effect: Effect
    title: str
    """What it is, in one sentence."""
    does: str
    """What a session does about it."""
    advice: str
    example: Example | None = None
    outcomes: list[Outcome] = []
    """The first one is the default settings'."""


class SessionRow(msgspec.Struct, frozen=True):
    """An ordinary session that was rehearsed."""

    name: str
    turns: list[Outcome]
    """One a request; the first is a `root`."""


class Report(msgspec.Struct, frozen=True):
    """Everything that was found."""

    verdict: Verdict
    summary: str
    findings: list[Finding]
    sessions: list[SessionRow]
