"""Counts for Prometheus, kept as plain numbers: they are written on every request and read once in a while."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from moorage.capture.call import Draft
from moorage.capture.packing import count

__all__ = ["Metrics"]

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0)


class _Latency:
    """How long the requests of one route took: [len(BOUNDS_S) + 1] counts, and their sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0


class Metrics:
    """What `/metrics` shows. Written by the event loop alone."""

    def __init__(self) -> None:
        self.in_flight = 0
        """Requests being answered."""
        self._requests: dict[tuple[str, int], int] = {}
        self._latency: dict[str, _Latency] = {}
        self._calls: dict[tuple[str, str], int] = {}
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, route: str, status: int, took_s: float) -> None:
        """A request is over. Status 499: its client went away."""
        self._requests[route, status] = self._requests.get((route, status), 0) + 1
        latency = self._latency.get(route)
        if latency is None:
            latency = self._latency[route] = _Latency()
        latency.counts[bisect_left(BOUNDS_S, took_s)] += 1
        latency.sum_s += took_s

    def captured(self, drafts: Sequence[Draft]) -> None:
        """The choices of one request were committed."""
        for draft in drafts:
            why = (draft.verdict, draft.reason or "")
            self._calls[why] = self._calls.get(why, 0) + 1
            self._completion_tokens += count(draft.completion)
        self._prompt_tokens += count(drafts[0].delta)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks a collector for."""
        yield GaugeMetricFamily("moorage_requests_in_flight", "Requests being answered", value=self.in_flight)
        requests = CounterMetricFamily("moorage_requests", "Requests by route and status", labels=["route", "status"])
        for (route, status), number in self._requests.items():
            requests.add_metric([route, str(status)], number)
        yield requests
        seconds = HistogramMetricFamily("moorage_request_seconds", "From head to last byte", labels=["route"])
        for route, latency in self._latency.items():
            seconds.add_metric([route], _cumulative(latency.counts), latency.sum_s)
        yield seconds
        calls = CounterMetricFamily("moorage_calls", "Calls committed, by verdict", labels=["verdict", "reason"])
        for (verdict, reason), number in self._calls.items():
            calls.add_metric([verdict, reason], number)
        yield calls
        tokens = CounterMetricFamily("moorage_tokens", "Tokens committed", labels=["kind"])
        tokens.add_metric(["prompt_delta"], self._prompt_tokens)
        tokens.add_metric(["completion"], self._completion_tokens)
        yield tokens


def _cumulative(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Prometheus's buckets: how many took at most so long."""
    buckets, sofar = [], 0
    for bound, number in zip([*BOUNDS_S, float("inf")], counts, strict=True):
        sofar += number
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(sofar)))
    return buckets
