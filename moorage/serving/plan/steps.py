"""The transition table: what each situation says of a model, and what is noted down for the next pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from moorage.serving.backends.contract import AppState
from moorage.serving.model import Progress, State
from moorage.serving.plan.conditions import Said, find, plain
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import Sight
from moorage.serving.plan.situation import Situation, needed
from moorage.serving.reasons import Reason

__all__ = ["STEPS", "Moment", "Step"]


class Moment(NamedTuple):
    """What a step is taken with."""

    sight: Sight
    now: float
    policy: Policy
    fault: str = ""
    """Why the backend refused it; empty: it did not."""


Say = Callable[[Moment], Said | None]
"""A condition; None: it stays as it is."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table."""

    state: State | None
    """None: RUNNING when requests are answered, else DEPLOYING."""
    event: str
    applied: Say
    healthy: Say
    progress: Callable[[Moment], Progress]
    error: Callable[[Moment], str] | None = None
    """What `error_summary` says; None: nothing."""
    settles: bool = False
    """The generation's fate is known from now on."""


def _says(status: bool | None, reason: Reason, message: str = "") -> Say:
    said = Said(status, reason, message)
    return lambda _: said


def _unchanged(_: Moment) -> None:
    return None


def _still_failed(moment: Moment) -> Said | None:
    """As it was said when it failed, which the time in which nobody answered may have written over."""
    before = find(moment.sight.model.conditions, "Healthy")
    if before is not None and before.reason == Reason.BACKEND_UNREACHABLE:
        return Said(False, Reason.DEPLOY_FAILED, "it failed before the backend went away")
    return None


def _applied(moment: Moment) -> Said:
    """Of what was told once: the backend may have lost it, or be told otherwise by its own configuration now."""
    if moment.sight.target.told:
        return Said(True, Reason.ACCEPTED)
    return Said(False, Reason.WAITING)


def _paused(moment: Moment) -> Said:
    progress = _after_failure(moment) if moment.sight.progress.not_before is None else moment.sight.progress
    if progress.attempts == 0:
        return Said(False, Reason.BACKED_OFF, "what failed before this generation is taken away first")
    again = datetime.fromtimestamp(progress.not_before or moment.now, UTC)
    text = f"failure {progress.attempts} of {moment.policy.attempts}; tried again at {again:%Y-%m-%dT%H:%M:%SZ}"
    return Said(False, Reason.BACKED_OFF, text)


def _failed(moment: Moment) -> Said:
    return Said(False, Reason.DEPLOY_FAILED, _why(moment))


def _late(moment: Moment) -> Said:
    return Said(False, Reason.DEADLINE, _too_late(moment))


def _counted(moment: Moment) -> Said | None:
    """Of an application: whether all of its replicas answer, and if not, why."""
    seen = moment.sight.target.seen
    if moment.fault:
        return _failed(moment)
    if seen is None and moment.sight.progress.serving_not_before is not None:
        return _still_failed(moment)
    if seen is None:
        return Said(False, Reason.DEGRADED, "the backend lost it; it is made again")
    ready, enough = seen.replicas_ready, needed(moment.sight)
    if seen.state is AppState.RUNNING and ready >= enough:
        return Said(True, Reason.SERVING)
    counted = f"{ready} of {enough} replicas answer" if seen.state is AppState.RUNNING else ""
    message = ": ".join(part for part in (counted, plain(seen.message)) if part)
    return Said(False, _lacking(seen.state, seen.reason), message)


def _lacking(state: AppState, reason: Reason) -> Reason:
    """A backend that says `Serving` of what does not serve in full means that the rest is on its way."""
    if reason is not Reason.SERVING:
        return reason
    return Reason.DEGRADED if state is AppState.DEGRADED else Reason.STARTING


def _why(moment: Moment) -> str:
    seen = moment.sight.target.seen
    text = moment.fault or ("" if seen is None else seen.message)
    return plain(text) or "the application failed, and the backend gave no reason"


def _too_late(moment: Moment) -> str:
    seen = moment.sight.target.seen
    last = "" if seen is None else plain(seen.message)
    return f"it did not serve within {moment.policy.deadline_s:g} s" + (f": {last}" if last else "")


def _same(moment: Moment) -> Progress:
    return moment.sight.progress


def _begin(moment: Moment) -> Progress:
    """The deadline starts when the backend has accepted it: a time in which nobody could work is not counted."""
    return replace(moment.sight.progress, not_before=None, deadline=None)


def _time(moment: Moment) -> Progress:
    progress = moment.sight.progress
    if progress.deadline is not None:
        return progress
    return replace(progress, deadline=moment.now + moment.policy.deadline_s)


def _after_failure(moment: Moment) -> Progress:
    """What died before it was told of this generation is taken away, and is no failure of this generation."""
    progress = moment.sight.progress
    if not (moment.sight.target.told or moment.fault):
        return replace(progress, not_before=moment.now, deadline=None)
    failures = progress.attempts + 1
    return replace(progress, attempts=failures, not_before=moment.now + moment.policy.backoff(failures), deadline=None)


def _end(moment: Moment) -> Progress:
    return replace(moment.sight.progress, not_before=None, deadline=None)


def _move(moment: Moment) -> Progress:
    """Requests go to the new revision; what they went to is kept for those that it still answers."""
    sight, progress = moment.sight, moment.sight.progress
    drains = (
        moment.policy.drain_s > 0
        and sight.serving is not None
        and not sight.in_place
        and sight.serving.state is AppState.RUNNING
    )
    return replace(
        progress,
        serving_generation=sight.model.generation,
        serving=sight.model.spec,
        attempts=0,
        not_before=None,
        deadline=None,
        draining=progress.serving if drains else progress.draining,
        drain_until=moment.now + moment.policy.drain_s if drains else progress.drain_until,
        serving_attempts=0,
        serving_not_before=None,
    )


def _leave(moment: Moment) -> Progress:
    return replace(
        moment.sight.progress,
        endpoints=(),
        attempts=0,
        not_before=None,
        deadline=None,
        draining=None,
        drain_until=None,
        serving_attempts=0,
        serving_not_before=None,
    )


STEPS: Mapping[Situation, Step] = MappingProxyType(
    {
        Situation.TO_APPLY: Step(
            State.DEPLOYING, "DEPLOYING", _says(False, Reason.WAITING), _says(None, Reason.WAITING), _begin
        ),
        Situation.COMING: Step(State.DEPLOYING, "STARTING", _applied, _counted, _time),
        Situation.BACKED_OFF: Step(State.DEPLOYING, "BACKED_OFF", _paused, _still_failed, _same),
        Situation.BROKEN: Step(State.DEPLOYING, "DEPLOY_ATTEMPT_FAILED", _paused, _failed, _after_failure),
        Situation.GIVEN_UP: Step(State.FAILED, "DEPLOY_FAILED", _failed, _failed, _end, error=_why, settles=True),
        Situation.OVERDUE: Step(State.FAILED, "DEPLOY_FAILED", _late, _late, _end, error=_too_late, settles=True),
        Situation.SERVES: Step(State.RUNNING, "RUNNING", _applied, _counted, _move, settles=True),
        Situation.KEPT: Step(None, "", _applied, _counted, _same),
        Situation.REJECTED: Step(
            State.FAILED, "", _unchanged, _unchanged, _same, error=lambda moment: moment.sight.model.error_summary or ""
        ),
        Situation.EXPIRED: Step(
            State.DELETING, "EXPIRED", _says(False, Reason.EXPIRED), _says(False, Reason.EXPIRED), _leave
        ),
        Situation.LEAVING: Step(
            State.DELETING, "DELETING", _says(False, Reason.DELETING), _says(False, Reason.DELETING), _leave
        ),
        Situation.GONE: Step(
            State.DELETED, "DELETED", _says(False, Reason.DELETED), _says(False, Reason.DELETED), _leave
        ),
    }
)
"""Every situation has one row."""
