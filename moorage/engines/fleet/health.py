"""When an endpoint is out and when it is back: a pure function of what was seen.

An error status of a request never counts. A refused connection takes an endpoint out at once; a broken one, or a
silence, only makes the next probe come at once, for it may have been that one request. A probe that finds the port
closed takes it out; one that is slow or answers an error must do so three times, since a busy engine answers late.
One good probe brings it back.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["EVERY_S", "PROBE_TIMEOUT_S", "Health", "Seen", "after", "health_target"]

Seen = Literal["answered", "probe_ok", "probe_failed", "probe_refused", "connect_refused", "broken"]
"""`answered`: a request got a reply, whatever its status."""

FAILURES_ALLOWED = 3
PROBE_TIMEOUT_S = 5.0
EVERY_S = 1.0


class Health(NamedTuple):
    """`reason` is None while healthy."""

    healthy: bool = True
    failures: int = 0
    """Probes in a row that were slow or answered an error."""
    suspect: bool = False
    """Whether a probe should come at once."""
    reason: str | None = None


def after(health: Health, seen: Seen, reason: str = "") -> Health:
    """The health after something was seen of the endpoint."""
    if seen == "probe_ok":
        return Health()
    if seen == "answered":
        return health if not health.healthy else Health(failures=health.failures)
    if seen == "broken":
        return health._replace(suspect=True)
    if seen == "probe_failed" and health.healthy and health.failures + 1 < FAILURES_ALLOWED:
        return Health(failures=health.failures + 1)
    return Health(healthy=False, failures=health.failures + 1, reason=reason)


def health_target(server_type: str) -> str:
    """What to GET: none of them makes an engine generate."""
    return {"vllm": "/health", "sglang": "/health", "trl": "/health/"}.get(server_type, "/v1/models")
