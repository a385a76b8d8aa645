"""What is noted down of applications that the backend refused: a failure of their model, and of no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moorage.serving.backends.contract import Seen
from moorage.serving.model import Model
from moorage.serving.plan.decide import conclude
from moorage.serving.plan.keeping import Keeping, keeping
from moorage.serving.plan.plan import sights
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import Digest, Sight
from moorage.serving.plan.situation import SETTLING, Situation, situation
from moorage.serving.store.contract import Change

__all__ = ["refusals"]


def refusals(
    models: Sequence[Model],
    seen: Mapping[str, Seen],
    refused: Mapping[str, str],
    now: float,
    policy: Policy,
    *,
    digest: Digest,
) -> tuple[Change, ...]:
    """The changes that follow from applications that were refused: their names, and what the backend said.

    `models` as they are stored by now; one that was changed meanwhile is left alone, for it is looked at anew.
    """
    found = (_change(sight, refused, now, policy) for sight in sights(models, seen, now, policy, digest))
    return tuple(change for change in found if change is not None)


def _change(sight: Sight, refused: Mapping[str, str], now: float, policy: Policy) -> Change | None:
    where = situation(sight, now, policy)
    how = keeping(sight, where, now)
    if where in SETTLING and sight.target.app in refused:
        last = sight.progress.attempts + 1 >= policy.attempts
        where = Situation.GIVEN_UP if last else Situation.BROKEN
        return conclude(sight, where, how, now, policy, refused[sight.target.app]).change
    if sight.serving is not None and sight.serving.app in refused:
        return conclude(sight, where, Keeping.BROKEN, now, policy, refused[sight.serving.app]).change
    return None
