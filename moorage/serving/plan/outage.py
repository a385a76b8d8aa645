"""What is noted down while the backend does not answer: that nothing is known, of what was waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from moorage.serving.model import Condition, Model, State
from moorage.serving.plan.conditions import Said, find, join
from moorage.serving.plan.decide import conclude
from moorage.serving.plan.keeping import Keeping
from moorage.serving.plan.plan import Plan
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import look
from moorage.serving.plan.situation import Situation, expires_at
from moorage.serving.reasons import Reason
from moorage.serving.store.contract import Change

__all__ = ["outage"]

_REASON = Reason.BACKEND_UNREACHABLE
_EVENT = "BACKEND_UNREACHABLE"


def outage(models: Sequence[Model], message: str, now: float, policy: Policy) -> Plan:
    """The changes while nobody answers, and nothing that should run: the backend is not told anything. `message`: for
    every user whose model waits.

    A model that serves stays as it is, for what runs is unknown and may well go on. No deadline runs meanwhile. What
    expires is marked, so that requests stop; it is taken away when the backend is back.
    """
    changes = [change for model in models if (change := _change(model, message, now, policy)) is not None]
    times = [ends for model in models if (ends := expires_at(model)) is not None and ends > now]
    return Plan(wanted=(), changes=tuple(changes), wake_at=min(times, default=None))


def _change(model: Model, message: str, now: float, policy: Policy) -> Change | None:
    ends = expires_at(model)
    if ends is not None and now >= ends:
        sight = look(model, {}, now, policy, lambda _: "")
        return conclude(sight, Situation.EXPIRED, Keeping.NOTHING, now, policy).change
    if not _waits(model):
        return None
    said = {name: Said(None, _REASON, message) for name in _unknown(model)}
    conditions = join(model.conditions, said, model.generation, datetime.fromtimestamp(now, UTC))
    progress = replace(model.progress, deadline=None)
    if conditions == model.conditions and progress == model.progress:
        return None
    return Change(
        model_key=model.model_key,
        generation=model.generation,
        was=model.state,
        state=model.state,
        observed_generation=model.observed_generation,
        error_summary=model.error_summary,
        conditions=conditions,
        progress=progress,
        events=((_EVENT, {"generation": model.generation, "reason": _REASON.value, "message": message}),),
    )


def _waits(model: Model) -> bool:
    """Whether the backend has still something to do for it."""
    if model.state in (State.QUEUED, State.DEPLOYING, State.DELETING):
        return True
    ready = find(model.conditions, "Ready")
    return model.progress.serving is not None and ready is not None and not ready.status


def _unknown(model: Model) -> list[str]:
    """The conditions that nobody can tell now. The first message stays: the next is the same fault in other words."""
    names = [] if model.state is State.FAILED else ["Applied", "Healthy"]
    if model.state is not State.DELETING and not _true(find(model.conditions, "Ready")):
        names.append("Ready")
    return [name for name in names if not _told(find(model.conditions, name), model.generation)]


def _told(condition: Condition | None, generation: int) -> bool:
    if condition is None or condition.generation != generation:
        return False
    return condition.reason == _REASON or (condition.type == "Applied" and condition.status is True)


def _true(condition: Condition | None) -> bool:
    return condition is not None and condition.status is True
