"""Whether a call is training or evaluation: each has slots of its own at every endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from moorage.engines.fleet.lane import LANES, Lane
from moorage.gateway.http.faults import Fault

if TYPE_CHECKING:
    from moorage.gateway.http.request import Request

__all__ = ["HEADER", "lane_named", "lane_of"]

HEADER = b"x-moorage-split"
NOTHING: Mapping[str, Any] = {}


def lane_of(request: Request, options: Mapping[str, Any] = NOTHING) -> Lane:
    """What the header says, else the session's `split`, else train. Raises a Fault of 400 for another word."""
    named = request.header(HEADER) or options.get("split")
    return "train" if named is None else lane_named(named, "x-moorage-split")


def lane_named(name: str, param: str) -> Lane:
    """Raises a Fault of 400 for what is neither."""
    if name == "eval":
        return "eval"
    if name == "train":
        return "train"
    message = f"{param} {name!r} is unknown: it is one of {', '.join(LANES)}"
    raise Fault(400, message, code="split_unknown", param=param)
