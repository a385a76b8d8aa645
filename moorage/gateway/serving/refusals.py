"""Why a request for a declared model is not answered, as its client is told."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moorage.errors import MoorageError, NotFoundError, NotReadyError, UsageError

if TYPE_CHECKING:
    from moorage.gateway.serving.feed import FedModel

__all__ = ["model_missing", "model_not_ready", "model_unknown", "nothing_heard"]

RETRY_AFTER_S = 5
"""Where the serving API does not say when to come again."""
NOT_KNOWN = "none of its endpoints is known yet"
SHOWN = 20
"""Names told at once."""


def model_not_ready(model: FedModel, unusable: str = "") -> NotReadyError:
    """503: it is declared, and nothing answers for it now. `unusable`: why this gateway cannot ask what does."""
    reason, why = model.reason or "NoEndpoint", model.message
    if model.ready:
        reason, why = ("EndpointUnusable", unusable) if unusable else (reason, why or NOT_KNOWN)
    after_s = RETRY_AFTER_S if model.retry_after_s is None else math.ceil(model.retry_after_s)
    return NotReadyError(
        f"the model {model.model_id} is not ready: {reason}" + (f": {why}" if why else ""),
        code="model_not_ready",
        data={
            "retry_after_s": max(1, after_s),
            "model": model.model_id,
            "state": model.state,
            "condition": {"type": "Ready", "status": "False", "reason": reason, "message": why},
        },
    )


def model_unknown(name: str, known: Iterable[str]) -> NotFoundError:
    """404: nobody declared it."""
    names = sorted(known)
    served = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return NotFoundError(
        f"no model {name!r} is declared",
        code="model_not_found",
        hint=f"served are: {served}" if names else "none is served now",
        data={"models": names[:SHOWN]},
    )


def model_missing(known: Iterable[str]) -> UsageError:
    """400: the request names none, and there are several or none."""
    names = sorted(known)
    return UsageError(
        "the request names no model, and not exactly one is declared here",
        code="model_missing",
        hint=f"served are: {', '.join(names[:SHOWN])}" if names else "none is served now",
        data={"models": names[:SHOWN]},
    )


def nothing_heard() -> MoorageError:
    """503: the serving API has not been reached since the gateway started."""
    return NotReadyError(
        "the serving API has not been reached yet, so no model is known here",
        code="serving_unreachable",
        data={"retry_after_s": RETRY_AFTER_S},
    )
