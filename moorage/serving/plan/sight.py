"""One model beside what the backend shows of it: the facts that every decision is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from moorage.serving.backends.contract import AppState, Seen, Wanted
from moorage.serving.model import Model, Progress, State
from moorage.serving.plan.policy import Policy
from moorage.serving.spec.spec import ServingSpec

__all__ = ["Digest", "Side", "Sight", "application", "by_model", "look", "shifted"]

Digest = Callable[[Wanted], str]
"""`Backend.digest`: a pure function."""

SLACK_S = 1.0
"""A time may lie so much further ahead than it was ever set, before the clock must have been set back."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of a model's applications as it is wanted, and as it is."""

    wanted: Wanted
    seen: Seen | None
    """None: the backend does not have it."""
    told: bool
    """The backend has it exactly as wanted."""

    @property
    def app(self) -> str:
        return self.wanted.app

    @property
    def state(self) -> AppState | None:
        return None if self.seen is None else self.seen.state

    @property
    def settled(self) -> bool:
        """It neither failed nor is on its way out, so it can be changed where it is."""
        return self.state in (AppState.RUNNING, AppState.DEGRADED, AppState.DEPLOYING)

    @property
    def ready(self) -> int:
        return 0 if self.seen is None else self.seen.replicas_ready


@dataclass(frozen=True, slots=True)
class Sight:
    """A model, its progress without what is out of date, and its applications."""

    model: Model
    progress: Progress
    target: Side
    """Of the spec that is declared now."""
    serving: Side | None
    """Of the last revision that was healthy; its application is the target's when only replicas differ."""
    draining: Side | None
    apps: Mapping[str, Seen]
    """All of this model's that the backend has, forgotten ones too."""

    @property
    def in_place(self) -> bool:
        """What is declared and what serves are one application."""
        return self.serving is not None and self.serving.app == self.target.app


def application(model: Model, spec: ServingSpec, build: str | None = None) -> Wanted:
    """The application of one revision of a model."""
    return Wanted(
        app=f"{model.model_key}-{build or spec.build()}",
        model_key=model.model_key,
        model_id=model.model_id,
        spec=spec,
    )


def by_model(seen: Mapping[str, Seen]) -> dict[str, dict[str, Seen]]:
    """What the backend has, by the model's key that every name begins with."""
    found: dict[str, dict[str, Seen]] = {}
    for app, one in seen.items():
        found.setdefault(app.rpartition("-")[0], {})[app] = one
    return found


def look(model: Model, apps: Mapping[str, Seen], now: float, policy: Policy, digest: Digest) -> Sight:
    """The model beside its own applications."""
    progress = _current(model, now, policy)
    target = _side(application(model, model.spec), apps, digest)
    same = progress.serving is not None and progress.serving == model.spec
    serving = target if same else _side_of(model, progress.serving, apps, digest)
    return Sight(
        model=model,
        progress=progress,
        target=target,
        serving=serving,
        draining=_side_of(model, progress.draining, apps, digest),
        apps=apps,
    )


def shifted(progress: Progress, seconds: float) -> Progress:
    """With its times moved: the clock was set by so much, and as much is still to be waited as before."""

    def moved(moment: float | None) -> float | None:
        return None if moment is None else moment + seconds

    return replace(
        progress,
        not_before=moved(progress.not_before),
        deadline=moved(progress.deadline),
        drain_until=moved(progress.drain_until),
        serving_not_before=moved(progress.serving_not_before),
    )


def _current(model: Model, now: float, policy: Policy) -> Progress:
    """Counts of an earlier generation are dropped, and no time lies further ahead than it can have been set."""
    progress = model.progress
    if model.state is State.QUEUED:
        progress = replace(progress, attempts=0, not_before=None, deadline=None)
    return replace(
        progress,
        not_before=_at_most(progress.not_before, now, policy.backoff_max_s),
        deadline=_at_most(progress.deadline, now, policy.deadline_s),
        drain_until=_at_most(progress.drain_until, now, policy.drain_s),
        serving_not_before=_at_most(progress.serving_not_before, now, policy.backoff_max_s),
    )


def _at_most(moment: float | None, now: float, ahead_s: float) -> float | None:
    if moment is None or moment <= now + ahead_s + SLACK_S:
        return moment
    return now + ahead_s


def _side_of(model: Model, spec: ServingSpec | None, apps: Mapping[str, Seen], digest: Digest) -> Side | None:
    return None if spec is None else _side(application(model, spec), apps, digest)


def _side(wanted: Wanted, apps: Mapping[str, Seen], digest: Digest) -> Side:
    seen = apps.get(wanted.app)
    told = seen is not None and seen.state is not AppState.REMOVING and seen.digest == digest(wanted)
    return Side(wanted, seen, told)
