"""Whom a request is for."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from moorage.engines.fleet.endpoint import DEFAULT_MODELS
from moorage.engines.fleet.lane import Lane
from moorage.engines.fleet.state import EndpointState

__all__ = ["Whom", "named"]


class Whom(msgspec.Struct, frozen=True):
    """Who may be asked. `fits`: whom to prefer to all others; None: anybody."""

    model: str | None
    session: str | None
    pin: str | None
    lane: Lane
    fits: Callable[[EndpointState], bool] | None


def named(model: str | None) -> str | None:
    """The model that a request names; None: it leaves it open."""
    return None if model in DEFAULT_MODELS else model
