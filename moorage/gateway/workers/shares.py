"""What a limit of the whole gateway leaves for one of its workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.following import Followed
from moorage.gateway.settings import Settings

__all__ = ["share", "share_of_endpoints", "share_of_followed", "share_of_settings"]


def share(limit: int, index: int, count: int) -> int:
    """Of worker `index` of `count`: together they are the limit, unless it is less than one each."""
    return max(1, limit // count + (index < limit % count))


def share_of_settings(settings: Settings, index: int, count: int) -> Settings:
    """Memory, connections and calls under way are shared out. `max_sessions` is not: all workers count all of them."""
    calls = settings.max_concurrency
    return replace(
        settings,
        memory_bytes=share(settings.memory_bytes, index, count),
        max_connections=share(settings.max_connections, index, count),
        max_concurrency=None if calls is None else share(calls, index, count),
    )


def share_of_endpoints(endpoints: Iterable[Endpoint], index: int, count: int) -> list[Endpoint]:
    """The same endpoints, each with this worker's part of what it takes at once."""
    return [
        replace(
            endpoint,
            num_max_requests_at_once=share(endpoint.num_max_requests_at_once, index, count),
            num_requests_for_eval=share(endpoint.num_requests_for_eval, index, count),
        )
        for endpoint in endpoints
    ]


def share_of_followed(followed: Iterable[Followed], index: int, count: int) -> list[Followed]:
    """The same of endpoints that somebody else keeps a list of."""
    return [one._replace(endpoint=share_of_endpoints((one.endpoint,), index, count)[0]) for one in followed]
