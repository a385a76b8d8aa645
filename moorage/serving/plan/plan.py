"""From what is declared and what is seen to what should run and what is to be noted down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from moorage.serving.backends.contract import AppState, Seen, Wanted
from moorage.serving.model import Model
from moorage.serving.plan.decide import decide
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import Digest, Sight, by_model, look, shifted
from moorage.serving.store.contract import Change

__all__ = ["Difference", "Plan", "difference", "plan", "sights"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass does: write `changes`, then have the backend run `wanted` where that is a difference."""

    wanted: tuple[Wanted, ...]
    """Every application that should run, in the order of the models."""
    changes: tuple[Change, ...]
    """To be written before the backend is told: an application goes only after what replaces it is on record."""
    wake_at: float | None
    """When time alone changes the plan, in Unix seconds; None: never."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What an `apply` would do."""

    same: tuple[Wanted, ...]
    """The backend has them exactly so."""
    changed: tuple[Wanted, ...]
    """It has them otherwise, to be changed where they are."""
    added: tuple[Wanted, ...]
    gone: tuple[str, ...]
    """Names of those to be taken away."""

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.gone)


def plan(
    models: Sequence[Model],
    seen: Mapping[str, Seen],
    now: float,
    policy: Policy,
    *,
    digest: Digest,
    stepped_s: float = 0.0,
) -> Plan:
    """What is to be done.

    `models`: all that are not DELETED. `seen`: all applications of ours. `now`: Unix seconds. `digest`: the backend's.
    `stepped_s`: so far was the clock set ahead (back, when negative) since the times in `models` were written. The same
    plan comes out until `wake_at` when nothing else changes, and once its changes are written there are none left.
    """
    decisions = [decide(sight, now, policy) for sight in sights(models, seen, now, policy, digest, stepped_s)]
    times = [one.wake_at for one in decisions if one.wake_at is not None]
    return Plan(
        wanted=tuple(wanted for one in decisions for wanted in one.wanted),
        changes=tuple(one.change for one in decisions if one.change is not None),
        wake_at=min(times, default=None),
    )


def sights(
    models: Iterable[Model],
    seen: Mapping[str, Seen],
    now: float,
    policy: Policy,
    digest: Digest,
    stepped_s: float = 0.0,
) -> Iterable[Sight]:
    """Every model beside its own applications."""
    apps = by_model(seen)
    for model in models:
        sight = look(_shifted(model, stepped_s), apps.get(model.model_key, {}), now, policy, digest)
        yield sight if stepped_s == 0 else replace(sight, model=model)


def difference(wanted: Sequence[Wanted], seen: Mapping[str, Seen], digest: Digest) -> Difference:
    """What is to be changed for `wanted` to run and nothing else. What is on its way out already is no difference."""
    same, changed, added = [], [], []
    for one in wanted:
        found = seen.get(one.app)
        if found is None:
            added.append(one)
        elif found.digest == digest(one):
            same.append(one)
        else:
            changed.append(one)
    names = {one.app for one in wanted}
    gone = [app for app, one in seen.items() if app not in names and one.state is not AppState.REMOVING]
    return Difference(tuple(same), tuple(changed), tuple(added), tuple(gone))


def _shifted(model: Model, seconds: float) -> Model:
    return model if seconds == 0 else replace(model, progress=shifted(model.progress, seconds))
