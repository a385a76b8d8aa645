"""What is told of each upstream; its label is the URL that it was configured with, in one spelling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from moorage.engines.fleet.counts import BOUNDS_S
from moorage.gateway.metrics.counts import STATUSES
from moorage.gateway.metrics.family import Family, counter, gauge, histogram

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState

__all__ = ["upstream_families"]

Pairs = dict[tuple[str, ...], float]


def upstream_families(states: Sequence[EndpointState]) -> list[Family]:
    """Of the upstreams that are configured now."""

    def each(value: Callable[[EndpointState], float]) -> Pairs:
        return {(state.url,): value(state) for state in states}

    known = {(state.url,): float(state.gives_token_ids) for state in states if state.gives_token_ids is not None}
    turns = {(state.url, to): float(count) for state in states for to, count in state.counts.turns.items()}
    return [
        gauge("moorage_upstream_up", "1 while its health check passes.", each(lambda one: one.healthy), "upstream"),
        gauge(
            "moorage_upstream_requests_in_flight",
            "Requests under way there.",
            each(lambda one: one.in_flight),
            "upstream",
        ),
        gauge(
            "moorage_upstream_requests_waiting",
            "Requests that wait for a place there.",
            each(lambda one: one.train.busy + one.evaluation.busy - one.in_flight),
            "upstream",
        ),
        gauge("moorage_upstream_sessions", "Sessions that live there.", each(lambda one: one.sessions), "upstream"),
        counter(
            "moorage_upstream_requests", "Replies that it gave, by status.", _statuses(states), *("upstream", "status")
        ),
        counter(
            "moorage_upstream_faults",
            "Attempts that got no reply, by what went wrong.",
            {(state.url, code): float(count) for state in states for code, count in state.counts.faults.items()},
            *("upstream", "code"),
        ),
        counter(
            "moorage_upstream_retries",
            "Attempts after which a request was asked again, there or elsewhere.",
            each(lambda one: one.counts.retries),
            "upstream",
        ),
        counter("moorage_upstream_health_changes", "How often it went down and came up.", turns, *("upstream", "to")),
        gauge(
            "moorage_upstream_token_ids",
            "Whether its last reply had token ids; absent until one has shown it.",
            known,
            "upstream",
        ),
        _seconds(states),
    ]


def _statuses(states: Sequence[EndpointState]) -> Pairs:
    told: Pairs = {}
    for state in states:
        for status, count in state.counts.statuses.items():
            named = (state.url, str(status) if status in STATUSES else "other")
            told[named] = told.get(named, 0) + count
    return told


def _seconds(states: Sequence[EndpointState]) -> Family:
    whole = {(state.url, "whole"): (state.counts.whole_s, state.counts.whole_sum_s) for state in states}
    head = {(state.url, "head"): (state.counts.head_s, state.counts.head_sum_s) for state in states}
    return histogram(
        "moorage_upstream_request_seconds",
        "From the request until the whole reply was there, or the head of a stream.",
        BOUNDS_S,
        {**whole, **head},
        *("upstream", "until"),
    )
