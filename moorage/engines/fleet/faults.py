"""Why the fleet could ask nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from moorage.errors import NotFoundError, TryAgainError

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState

__all__ = ["NoUpstream", "model_not_found", "nobody_of", "unknown_base_url"]

RETRY_AFTER_S = 2


class NoUpstream(TryAgainError):
    """No endpoint that may take the request is healthy. `data["retry_after_s"]`: when to come again."""

    code = "no_healthy_upstream"

    def __init__(self, message: str, reasons: Iterable[str]) -> None:
        super().__init__(
            message,
            hint="; ".join(reasons) or "give one with --upstream",
            data={"retry_after_s": RETRY_AFTER_S},
        )


def nobody_of(states: Sequence[EndpointState]) -> NoUpstream:
    """For a request that only these may take."""
    what = "no upstream that may serve this is healthy" if states else "no upstream is configured"
    return NoUpstream(what, [f"{state.endpoint.base_url}: {state.health.reason or 'draining'}" for state in states])


def model_not_found(model: str, known: Iterable[str]) -> NotFoundError:
    """For a model that no endpoint serves."""
    names = sorted(set(known))
    return NotFoundError(
        f"no endpoint serves the model {model!r}",
        code="model_not_found",
        hint=f"served are: {', '.join(names)}" if names else "no endpoint has said yet what it serves",
        data={"models": names},
    )


def unknown_base_url(base_url: str, known: Iterable[str]) -> NotFoundError:
    """For a pin to what is not in the fleet."""
    urls = list(known)
    return NotFoundError(
        f"no server has the base URL {base_url!r}",
        code="unknown_base_url",
        hint=f"available: {', '.join(urls) or 'none'}",
        data={"base_urls": urls},
    )
