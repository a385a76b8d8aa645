"""What is decided of one model: its next state, what is noted down, and which of its applications should run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from moorage.serving.backends.contract import AppState, Wanted
from moorage.serving.model import Condition, Progress, State
from moorage.serving.plan.conditions import Said, find, join
from moorage.serving.plan.keeping import Keeping, endpoints, is_wanted, keep, keeping, ready
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import Side, Sight
from moorage.serving.plan.situation import Situation, expires_at, situation
from moorage.serving.plan.steps import STEPS, Moment, Step
from moorage.serving.reasons import Reason
from moorage.serving.store.contract import Change

__all__ = ["Decision", "conclude", "decide"]

_LEAVING = frozenset({Situation.EXPIRED, Situation.LEAVING, Situation.GONE})
_ON_ITS_WAY = frozenset({Situation.TO_APPLY, Situation.COMING, Situation.SERVES})
_ALL = ("Applied", "Healthy", "Ready")


@dataclass(frozen=True, slots=True)
class Decision:
    """Of one model."""

    change: Change | None
    """None: what is stored says it all."""
    wanted: tuple[Wanted, ...]
    wake_at: float | None
    """When time alone changes it, in Unix seconds; None: never."""


def decide(sight: Sight, now: float, policy: Policy) -> Decision:
    """What is decided of a model as it is seen now."""
    where = situation(sight, now, policy)
    return conclude(sight, where, keeping(sight, where, now), now, policy)


def conclude(sight: Sight, where: Situation, how: Keeping, now: float, policy: Policy, fault: str = "") -> Decision:
    """The decision that a situation leads to. `fault`: why the backend refused the application."""
    step = STEPS[where]
    moment = Moment(sight, now, policy, fault)
    progress = _drained(_progress(step, moment, where, how), sight, now)
    said = _conditions(step, moment, where, how)
    model = sight.model
    when = datetime.fromtimestamp(now, UTC)
    change = Change(
        model_key=model.model_key,
        generation=model.generation,
        was=model.state,
        state=step.state or (State.RUNNING if said["Ready"].status else State.DEPLOYING),
        observed_generation=model.generation if step.settles else model.observed_generation,
        error_summary=None if step.error is None else step.error(moment),
        conditions=join(model.conditions, said, model.generation, when),
        progress=progress,
    )
    wanted = _wanted(sight, where, how, progress)
    wake_at = _earliest(progress, expires_at(model)) if where not in _LEAVING else None
    if _same(change, sight):
        return Decision(None, wanted, wake_at)
    return Decision(replace(change, events=_events(change, step, sight)), wanted, wake_at)


def _progress(step: Step, moment: Moment, where: Situation, how: Keeping) -> Progress:
    progress = step.progress(moment)
    if where in _LEAVING:
        return progress
    if where is Situation.SERVES:
        return replace(progress, endpoints=endpoints(moment.sight.target.seen))
    return keep(progress, moment.sight, how, moment.now, moment.policy)


def _drained(progress: Progress, sight: Sight, now: float) -> Progress:
    """Draining ends when its time is over, when the application is gone, or when it is wanted again."""
    if progress.draining is None:
        return progress
    if progress.draining is sight.progress.draining and not _drains(sight.draining, sight):
        return replace(progress, draining=None, drain_until=None)
    if progress.drain_until is None or now >= progress.drain_until:
        return replace(progress, draining=None, drain_until=None)
    return progress


def _drains(side: Side | None, sight: Sight) -> bool:
    others = [sight.target.app] + ([] if sight.serving is None else [sight.serving.app])
    return side is not None and side.settled and side.app not in others


def _conditions(step: Step, moment: Moment, where: Situation, how: Keeping) -> dict[str, Said]:
    applied, healthy = step.applied(moment), step.healthy(moment)
    said = {"Accepted": Said(True, Reason.ACCEPTED)}
    said |= {name: one for name, one in (("Applied", applied), ("Healthy", healthy)) if one is not None}
    said["Ready"] = _ready(step, moment, where, how, healthy)
    return said


def _ready(step: Step, moment: Moment, where: Situation, how: Keeping, healthy: Said | None) -> Said:
    sight = moment.sight
    if where in _LEAVING:
        expired = find(sight.model.conditions, "Ready")
        if where is Situation.LEAVING and expired is not None and expired.reason == Reason.EXPIRED:
            return Said(False, Reason.EXPIRED)
        return healthy or Said(False, Reason.DELETING)
    if where is Situation.SERVES:
        return Said(True, Reason.SERVING)
    if how is Keeping.NOTHING:
        if step.error is not None:
            return Said(False, Reason.NEVER_SERVED, step.error(moment))
        return _as(healthy or _said(find(sight.model.conditions, "Healthy")))
    said = ready(sight, how, moment.fault)
    if step.state is not State.FAILED or not said.status:
        return said
    return Said(True, Reason.ROLLED_BACK, f"generation {sight.progress.serving_generation} serves")


def _as(healthy: Said | None) -> Said:
    """Of a model of which nothing was ever healthy: nothing answers, for the reason that its revision is not."""
    return Said(False, Reason.WAITING) if healthy is None else healthy._replace(status=False)


def _said(condition: Condition | None) -> Said | None:
    return None if condition is None else Said(condition.status, Reason(condition.reason), condition.message)


def _wanted(sight: Sight, where: Situation, how: Keeping, progress: Progress) -> tuple[Wanted, ...]:
    """Without what was taken away by its failure, and without what is only just going: it is waited for."""
    if where in _LEAVING:
        return ()
    found: list[Wanted] = []
    if where in _ON_ITS_WAY and sight.target.state is not AppState.REMOVING:
        found.append(sight.target.wanted)
    serving = sight.serving
    if where is not Situation.SERVES and serving is not None and is_wanted(serving, how):
        found.append(serving.wanted)
    if progress.draining is not None:
        found.extend(
            side.wanted for side in (sight.draining, serving) if side and side.wanted.spec == progress.draining
        )
    return tuple({one.app: one for one in reversed(found)}.values())[::-1]


def _same(change: Change, sight: Sight) -> bool:
    model = sight.model
    return (
        change.state is model.state
        and change.observed_generation == model.observed_generation
        and change.error_summary == model.error_summary
        and change.progress == model.progress
        and change.conditions == model.conditions
    )


def _events(change: Change, step: Step, sight: Sight) -> tuple[tuple[str, dict[str, Any]], ...]:
    """One when the state, a status or a reason is another one. Another message alone is none."""
    model = sight.model
    old = [_gist(find(model.conditions, name)) for name in _ALL]
    new = [_gist(find(change.conditions, name)) for name in _ALL]
    if change.state is model.state and old == new and change.progress.attempts == model.progress.attempts:
        return ()
    ready_now = find(change.conditions, "Ready")
    main = find(change.conditions, "Healthy") if step.event else ready_now
    events = [_event(step.event or _turn(ready_now), change, main)]
    if step.settles and _turn(ready_now) == "ROLLED_BACK":
        events.append(_event("ROLLED_BACK", change, ready_now))
    return tuple(events)


def _turn(ready_now: Condition | None) -> str:
    """The event of a model whose generation was settled before."""
    if ready_now is None or not ready_now.status:
        return "NOT_READY"
    return "ROLLED_BACK" if ready_now.reason == Reason.ROLLED_BACK else "READY"


def _event(event_type: str, change: Change, condition: Condition | None) -> tuple[str, dict[str, Any]]:
    payload: dict[str, Any] = {"generation": change.generation}
    if condition is not None:
        payload |= {"reason": condition.reason, "message": condition.message}
    return event_type, payload


def _gist(condition: Condition | None) -> tuple[bool | None, str] | None:
    return None if condition is None else (condition.status, condition.reason)


def _earliest(progress: Progress, expires: float | None) -> float | None:
    times = (progress.not_before, progress.deadline, progress.drain_until, progress.serving_not_before, expires)
    return min((one for one in times if one is not None), default=None)
