"""Where a model is on its way: one situation, found from the facts of a `Sight`.

    QUEUED ──► TO_APPLY ──► COMING ──► SERVES ──► KEPT ◄─┐ (comes and goes with its replicas, for ever)
                  ▲           │  │                  └────┘
                  └ BACKED_OFF ◄─┘ BROKEN
                        │     │
                        ▼     ▼
                     GIVEN_UP, OVERDUE ──► REJECTED (an older revision goes on, when one was healthy)

    any of them ──► EXPIRED | deleted by its user ──► LEAVING ──► GONE

A change of the spec leads from any of them, but the last row, back to QUEUED. The situation is found anew in every
pass from what is stored and what the backend shows, so a pass that was cut off anywhere is simply made again.
"""

from __future__ import annotations

from enum import Enum, auto

from moorage.serving.backends.contract import AppState
from moorage.serving.model import Model, State
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import Sight

__all__ = ["SETTLING", "Situation", "expires_at", "needed", "situation"]


class Situation(Enum):
    """Where a model is. The first seven are of a generation that is not settled yet."""

    TO_APPLY = auto()
    """The backend has not got it as declared."""
    COMING = auto()
    """It has, and not enough answers yet."""
    BACKED_OFF = auto()
    """It failed, and the next attempt is not due, or what failed is still on its way out."""
    BROKEN = auto()
    """It just failed, and is tried again."""
    GIVEN_UP = auto()
    """It just failed for the last time."""
    OVERDUE = auto()
    """Its deadline just passed."""
    SERVES = auto()
    """It answers: requests move over to it."""

    KEPT = auto()
    """It was healthy once: it is kept so, whatever happens to its replicas."""
    REJECTED = auto()
    """It failed for good; what was healthy before is kept."""

    EXPIRED = auto()
    """Its time to live just ran out."""
    LEAVING = auto()
    """It is deleted, and the backend still has something of it."""
    GONE = auto()
    """It is deleted, and nothing is left."""


SETTLING = frozenset(
    {
        Situation.TO_APPLY,
        Situation.COMING,
        Situation.BACKED_OFF,
        Situation.BROKEN,
        Situation.GIVEN_UP,
        Situation.OVERDUE,
        Situation.SERVES,
    }
)
"""Of a generation whose fate is open when a pass begins."""


def situation(sight: Sight, now: float, policy: Policy) -> Situation:
    """Where the model is, `now` in Unix seconds."""
    model = sight.model
    if model.state is State.DELETING:
        return Situation.LEAVING if sight.apps else Situation.GONE
    ends = expires_at(model)
    if ends is not None and now >= ends:
        return Situation.EXPIRED
    if model.observed_generation == model.generation and model.state is not State.QUEUED:
        if model.state is State.FAILED:
            return Situation.REJECTED
        if sight.progress.serving_generation == model.generation:
            return Situation.KEPT
    return _settling(sight, now, policy)


def expires_at(model: Model) -> float | None:
    """When its time to live runs out, in Unix seconds; None: never, or it is being deleted already."""
    if model.spec.ttl_s is None or model.state is State.DELETING:
        return None
    return model.accepted_at.timestamp() + model.spec.ttl_s


def needed(sight: Sight) -> int:
    """So many replicas of the target are enough."""
    return sight.target.wanted.spec.replicas.least


def _settling(sight: Sight, now: float, policy: Policy) -> Situation:
    target = sight.target
    if sight.progress.not_before is not None:
        return _backed_off(sight, now)
    if target.state is AppState.FAILED:
        return _broken(sight, policy)
    if not target.told:
        return Situation.TO_APPLY
    overdue = _past(sight.progress.deadline, now)
    if target.state is AppState.RUNNING and (overdue or _enough(sight)):
        return Situation.SERVES
    return Situation.OVERDUE if overdue else Situation.COMING


def _backed_off(sight: Sight, now: float) -> Situation:
    """An attempt begins when its time has come and what the last one left behind is gone."""
    if _past(sight.progress.deadline, now):
        return Situation.OVERDUE
    free = sight.target.seen is None or (sight.in_place and sight.target.settled)
    return Situation.TO_APPLY if free and _past(sight.progress.not_before, now) else Situation.BACKED_OFF


def _broken(sight: Sight, policy: Policy) -> Situation:
    """What died before it was told of this generation is no failure of this generation."""
    if sight.target.told and sight.progress.attempts + 1 >= policy.attempts:
        return Situation.GIVEN_UP
    return Situation.BROKEN


def _enough(sight: Sight) -> bool:
    """A first revision serves as soon as anything of it answers; one that takes over needs all its replicas."""
    older = sight.serving
    if older is None or older.state is not AppState.RUNNING:
        return True
    return sight.target.ready >= needed(sight)


def _past(moment: float | None, now: float) -> bool:
    return moment is not None and now >= moment
