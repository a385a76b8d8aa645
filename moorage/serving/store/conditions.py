"""What a model's conditions are at once when users change it, before a reconciler looked. Pure."""

from __future__ import annotations

from datetime import datetime

from moorage.serving.model import Condition
from moorage.serving.reasons import CONDITIONS, Reason

__all__ = ["accepted", "marked_for_deletion"]


def accepted(before: tuple[Condition, ...], generation: int, now: datetime) -> tuple[Condition, ...]:
    """Of a model whose spec of this generation was accepted now; `before` is empty for a new model.

    `Ready` speaks of older generations too, so it stays as it was.
    """
    old = {one.type: one for one in before}
    fresh = {
        "Accepted": (True, Reason.ACCEPTED),
        "Applied": (None, Reason.WAITING),
        "Healthy": (None, Reason.WAITING),
    }
    if "Ready" not in old:
        fresh["Ready"] = (False, Reason.WAITING)
    made = {
        name: _condition(old.get(name), name, status, reason, generation, now)
        for name, (status, reason) in fresh.items()
    }
    return _in_order({**old, **made})


def marked_for_deletion(
    before: tuple[Condition, ...], reason: Reason, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Of a model that was marked for deletion now: nothing is sent to it any more."""
    old = {one.type: one for one in before}
    old["Ready"] = _condition(old.get("Ready"), "Ready", False, reason, generation, now)
    return _in_order(old)


def _condition(
    old: Condition | None, name: str, status: bool | None, reason: Reason, generation: int, now: datetime
) -> Condition:
    changed_at = now if old is None or old.status is not status else old.changed_at
    return Condition(type=name, status=status, reason=reason, changed_at=changed_at, generation=generation)


def _in_order(conditions: dict[str, Condition]) -> tuple[Condition, ...]:
    known = [conditions[name] for name in CONDITIONS if name in conditions]
    return (*known, *(one for name, one in conditions.items() if name not in CONDITIONS))
