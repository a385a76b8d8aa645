"""What is told of following a serving API, and of the users that it speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.gateway.metrics.family import Family, counter, gauge

if TYPE_CHECKING:
    from moorage.gateway.serving.serving import Serving

__all__ = ["serving_families"]


def serving_families(serving: Serving) -> list[Family]:
    """Of one worker."""
    heard, feed = serving.follower.heard, serving.feed
    ready = len(serving.directory.ready)
    declared = 0 if feed is None else len(feed.models)
    version = {} if feed is None else {(): float(feed.version)}
    since = {} if heard.at is None else {(): serving.heard_s_ago}
    polls = {(how,): float(many) for how, many in heard.polls.items()}
    refused = {(limit,): float(many) for limit, many in serving.accounts.refused.items()}
    return [
        gauge("moorage_serving_following", "1 while the serving API answers as it should.", float(heard.following)),
        gauge("moorage_serving_version", "The feed that requests are routed by; absent before the first.", version),
        gauge("moorage_serving_heard_seconds", "How long ago the API was heard; absent before the first.", since),
        gauge(
            "moorage_serving_models",
            "Declared models, by whether requests for them are answered.",
            {("true",): float(ready), ("false",): float(declared - ready)},
            "ready",
        ),
        counter("moorage_serving_polls", "Questions to the serving API, by what came.", polls, "outcome"),
        counter("moorage_user_requests_refused", "Requests beyond a user's limits.", refused, "limit"),
    ]
