"""The registry's record of one service: a plain dict, so that fields of other tools survive.

Field names are the TAO skill's; ours are additive. Functions here read entries defensively, since any tool that
follows the TAO skill may have written them.
"""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False  # typing's own name for it: importing typing costs `moor list` 2 ms
if TYPE_CHECKING:
    from typing import Any

    Entry = dict[str, Any]
else:
    Entry = dict

DEAD_STATES = frozenset({"exited", "failed"})


def now_utc() -> str:
    """ISO-8601, UTC, microseconds: sorts as text among our own entries."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def started_at_s(entry: Mapping[str, Any]) -> float:
    """Seconds since the epoch; entries without a readable `started_at` count as the oldest."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(str(entry.get("started_at")))
    except ValueError:
        return float("-inf")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def most_recent(services: Mapping[str, Entry]) -> str | None:
    """The id of the most recently started service; None when there is none. Ties go to the later written one."""
    if not services:
        return None
    order = list(services)
    return max(order, key=lambda job_id: (started_at_s(services[job_id]), order.index(job_id)))


def host_port_of(entry: Mapping[str, Any]) -> int | None:
    """The port on this machine that the entry holds; None when it holds none."""
    port = entry.get("host_port")
    return port if isinstance(port, int) and not isinstance(port, bool) else None


def candidate(entry: Mapping[str, Any]) -> Entry:
    """What a person needs to choose between services."""
    keys = ("job_id", "network_arch", "platform", "host_url", "started_at", "state")
    return {key: entry.get(key) for key in keys}
