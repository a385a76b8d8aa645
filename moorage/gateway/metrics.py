"""Counters for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from moorage.capture.call import Draft
from moorage.capture.packing import count

__all__ = ["Metrics"]

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = Gauge("moorage_requests_in_flight", "Requests being answered", registry=self.registry)
        self._requests = Counter(
            "moorage_requests", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "moorage_request_seconds", "From head to last byte", ["route"], buckets=LATENCY_S, registry=self.registry
        )
        self._calls = Counter(
            "moorage_calls", "Calls committed, by verdict and reason", ["verdict", "reason"], registry=self.registry
        )
        self._tokens = Counter("moorage_tokens", "Tokens committed", ["kind"], registry=self.registry)
        self._prompt, self._completion = self._tokens.labels("prompt_delta"), self._tokens.labels("completion")
        self._by_route: dict[tuple[str, int], Counter] = {}
        self._latency_of: dict[str, Histogram] = {}

    def answered(self, route: str, status: int, took_s: float) -> None:
        """A request is over. Status 499: its client went away."""
        key = (route, status)
        counter = self._by_route.get(key)
        if counter is None:
            counter = self._by_route[key] = self._requests.labels(route, str(status))
            self._latency_of.setdefault(route, self._latency.labels(route))
        counter.inc()
        self._latency_of[route].observe(took_s)

    def captured(self, drafts: Sequence[Draft]) -> None:
        """Calls were committed."""
        for draft in drafts:
            self._calls.labels(draft.verdict, draft.reason or "").inc()
            self._completion.inc(count(draft.completion))
        self._prompt.inc(count(drafts[0].delta))

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
