"""Whether the script of a conversation explains how each call continues it.

What is expected follows from the script and from the ids that the engine reported, never from the records on trial:

| the prompt, as the engine says it | the script | expected |
| --- | --- | --- |
| begins with the path of the reply that it goes on from | gave back what it was given | exact |
| goes on from no reply, and has no other one | | root |
| parts from that path | changed the history | branch, with the change's reason |
| parts from that path, passthrough | changed nothing | branch: the engine wrote the reply in other tokens |
| parts from that path, exact | changed nothing, and thoughts are preserved | a fault |

Where thoughts are not preserved, an exact session's past turns are as the template writes them: reasoning_stripped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.campaigns.conversations.talk import Message, Turn
from tests.campaigns.ledger import Ledger, StoredCall

__all__ = ["unexplained"]

REASONS = {
    "normalised": {"edited"},
    "edited_reply": {"edited"},
    "edited_question": {"edited"},
    "edited_reasoning": {"edited"},
    "dropped_reasoning": {"reasoning_stripped"},
    "cut_history": {"edited", "truncated"},
    "tools_changed": {"tools_changed"},
    "system_changed": {"system_changed"},
}
FOREIGN = ("edited_reply", "edited_question", "cut_history", "system_changed")
"""Changes after which the history has replies that nobody sampled as they stand."""


def unexplained(
    turn: Turn, call: StoredCall, of_turn: Mapping[int, Sequence[StoredCall]], turns: Sequence[Turn], ledger: Ledger
) -> str | None:
    """What is wrong with the call's boundary; None: it is what the script explains.

    `of_turn`: the stored calls of each of the `turns`, by its place.
    """
    verdict, reason = call.record.verdict, call.record.reason
    bases = _bases(turn, of_turn, turns)
    said = f"{turn.tag} ({turn.change or 'nothing changed'}): {verdict} {reason or ''}"
    stripped = {"reasoning_stripped"} if ledger.trajectory.options.get("preserve_think_blocks") is False else set()
    if turn.change in FOREIGN:
        right = verdict == "branch" and reason in REASONS[turn.change] | stripped
        return None if right else f"{said}, but it has replies that nobody sampled"
    if turn.after is None:
        return None if (verdict, call.record.parent) == ("root", None) else f"{said}, but it goes on from nothing"
    if any(call.prompt[: len(base.path)] == base.path for base in bases):
        return _continued(call, bases, ledger, said)
    if verdict != "branch":
        return f"{said}, but the prompt parts from what was sampled"
    if call.record.mode == "exact" and turn.change is None and not stripped:
        return f"{said}, but nothing was changed"
    allowed = REASONS.get(turn.change or "", set()) | stripped
    if call.record.mode == "passthrough":
        allowed |= {_where(call, base, ledger) for base in bases}
    return None if reason in allowed else f"{said}, expected one of {sorted(allowed)}"


def _continued(call: StoredCall, bases: Sequence[StoredCall], ledger: Ledger, said: str) -> str | None:
    if call.record.verdict != "exact" or call.record.parent is None:
        return f"{said}, but the prompt begins with what was sampled"
    parent = ledger.calls[call.record.parent]
    if call.record.keep != len(parent.path) or parent.path not in [base.path for base in bases]:
        return f"{said}, but it keeps {call.record.keep} tokens of call {parent.seq}"
    return None


def _bases(turn: Turn, of_turn: Mapping[int, Sequence[StoredCall]], turns: Sequence[Turn]) -> list[StoredCall]:
    """The call that the turn goes on from, and other samples that read the same to the client."""
    if turn.after is None:
        return []
    origin, choice = turn.after
    said = _visible(origin.heard[choice], turn.change)
    return [
        of_turn[place][other]
        for place, earlier in enumerate(turns)
        if (earlier.messages, earlier.prompt) == (origin.messages, origin.prompt) and not earlier.left
        for other, heard in enumerate(earlier.heard)
        if _visible(heard, turn.change) == said and other < len(of_turn[place])
    ]


def _visible(message: Message, change: str | None) -> tuple[object, ...]:
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
    reasoning = None if change == "dropped_reasoning" else message.get("reasoning") or None
    return message.get("content") or "", calls, reasoning


def _where(call: StoredCall, base: StoredCall, ledger: Ledger) -> str:
    """What the engine wrote in other tokens: the reply from which the prompt parts, or what stood between replies."""
    pairs = zip(call.prompt, base.path, strict=False)
    shared = next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), None)
    if shared is None:
        return "truncated"
    owner = base
    while owner.record.parent is not None and shared < owner.record.keep:
        owner = ledger.calls[owner.record.parent]
    if shared >= len(owner.prompt) and owner.record.reasoning_digest:
        return "reasoning_stripped"
    return (
        "tool_reserialised"
        if shared >= len(owner.prompt) and owner.record.finish_reason == "tool_calls"
        else "template"
    )
