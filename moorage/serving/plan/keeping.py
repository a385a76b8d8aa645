"""How the revision that was healthy last is, which requests reach whatever becomes of the one that is declared."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from types import MappingProxyType

from moorage.serving.backends.contract import AppState, Seen
from moorage.serving.model import ModelEndpoint, Progress
from moorage.serving.plan.conditions import Said, find, plain
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import Side, Sight
from moorage.serving.plan.situation import SETTLING, Situation
from moorage.serving.reasons import Reason

__all__ = ["Keeping", "endpoints", "is_wanted", "keep", "keeping", "ready"]


class Keeping(Enum):
    """How it is. It is brought back for ever, with longer pauses the oftener it failed in a row."""

    NOTHING = auto()
    """No revision was healthy yet."""
    ANSWERS = auto()
    SILENT = auto()
    """It ran, and the backend is at it."""
    COMING = auto()
    LOST = auto()
    """The backend does not have it any more."""
    BROKEN = auto()
    """It just failed: it is taken away, and made again after a pause."""
    BACKED_OFF = auto()


_BY_STATE = MappingProxyType(
    {
        AppState.RUNNING: Keeping.ANSWERS,
        AppState.DEGRADED: Keeping.SILENT,
        AppState.DEPLOYING: Keeping.COMING,
        AppState.FAILED: Keeping.BROKEN,
        AppState.REMOVING: Keeping.LOST,
        None: Keeping.LOST,
    }
)

_READY = MappingProxyType(
    {
        Keeping.ANSWERS: Said(True, Reason.SERVING),
        Keeping.SILENT: Said(False, Reason.DEGRADED, "nothing of it answers"),
        Keeping.COMING: Said(False, Reason.STARTING, "its replicas start again"),
        Keeping.LOST: Said(False, Reason.DEGRADED, "the backend lost it; it is made again"),
        Keeping.BROKEN: Said(False, Reason.BACKED_OFF, "it failed; it is made again"),
        Keeping.BACKED_OFF: Said(False, Reason.BACKED_OFF, "it failed; it is made again"),
    }
)


def keeping(sight: Sight, where: Situation, now: float) -> Keeping:
    """How the revision that serves is."""
    side = sight.serving
    if side is None:
        return Keeping.NOTHING
    how = _BY_STATE[side.state]
    if how is Keeping.BROKEN and where in SETTLING and sight.in_place:
        return Keeping.BACKED_OFF  # the application is the target's too, and its failure is counted there
    pause = sight.progress.serving_not_before
    if pause is None or side.settled:
        return how
    return Keeping.LOST if side.seen is None and now >= pause else Keeping.BACKED_OFF


def is_wanted(side: Side, how: Keeping) -> bool:
    """Whether it should run now: not while it is backed off, nor before what failed or goes is gone."""
    if how in (Keeping.BROKEN, Keeping.BACKED_OFF):
        return False
    return side.seen is None or side.settled


def ready(sight: Sight, how: Keeping, fault: str) -> Said:
    """The condition `Ready` of a model that was healthy once. `fault`: why the backend refused it just now."""
    said = _READY[how]
    if said.status:
        return said
    seen = None if sight.serving is None else sight.serving.seen
    message = plain(fault or ("" if seen is None else seen.message))
    before = find(sight.model.conditions, "Ready")
    if not message and how is Keeping.BACKED_OFF and before is not None and before.reason == said.reason:
        message = before.message
    return said._replace(message=message or said.message)


def keep(progress: Progress, sight: Sight, how: Keeping, now: float, policy: Policy) -> Progress:
    """The progress with what is to be noted of the revision that serves."""
    side = sight.serving
    if side is None:
        return progress
    progress = replace(progress, endpoints=endpoints(side.seen))
    if how is Keeping.BACKED_OFF:
        return progress
    if how is Keeping.BROKEN:
        failures = progress.serving_attempts + 1
        return replace(progress, serving_attempts=failures, serving_not_before=now + policy.backoff(failures))
    return replace(
        progress,
        serving_attempts=0 if how is Keeping.ANSWERS else progress.serving_attempts,
        serving_not_before=None,
    )


def endpoints(seen: Seen | None) -> tuple[ModelEndpoint, ...]:
    """Where an application answers, in an order that stays."""
    if seen is None:
        return ()
    return tuple(sorted(seen.endpoints, key=lambda one: (one.base_url, one.model)))
