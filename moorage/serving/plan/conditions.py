"""The conditions of a model: what is said of it now, joined with when that changed last."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from moorage.serving.model import Condition
from moorage.serving.reasons import CONDITIONS, Reason

__all__ = ["MESSAGE_CHARACTERS", "Said", "find", "join", "plain"]

MESSAGE_CHARACTERS = 2000
"""Longer messages lose their beginning: an engine says at the end what it died of."""

_CONTROL = MappingProxyType(
    {code: " " for code in (*range(0x00, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0))}
)


class Said(NamedTuple):
    """What a pass says about one type of condition. `status` None: not known."""

    status: bool | None
    reason: Reason
    message: str = ""


def join(
    before: tuple[Condition, ...], said: Mapping[str, Said], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """All conditions of the catalogue, in its order. One that is not spoken of stays as it was, or is left out."""
    old = {condition.type: condition for condition in before}
    return tuple(
        condition
        for name in CONDITIONS
        if (condition := _condition(name, old.get(name), said.get(name), generation, now)) is not None
    )


def find(conditions: tuple[Condition, ...], name: str) -> Condition | None:
    """The condition of that type; None: nothing was said of it yet."""
    return next((condition for condition in conditions if condition.type == name), None)


def plain(message: str) -> str:
    """What a backend said, as text that every store, terminal and log can hold."""
    text = message[-MESSAGE_CHARACTERS:].encode("utf-8", "replace").decode()
    return text.translate(_CONTROL).strip()


def _condition(name: str, old: Condition | None, said: Said | None, generation: int, now: datetime) -> Condition | None:
    if said is None:
        return old
    return Condition(
        type=name,
        status=said.status,
        reason=said.reason.value,
        message=said.message,
        changed_at=old.changed_at if old is not None and old.status is said.status else now,
        generation=generation,
    )
