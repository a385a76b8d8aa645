"""What requests and recorded calls count, on the event loop alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from moorage.capture.call import Draft
from moorage.capture.packing import count
from moorage.gateway.metrics.family import Family, counter, gauge, histogram

__all__ = ["Metrics"]

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0)
STATUSES = range(100, 600)
"""An engine may answer any number: others are told as one."""


class _Latency:
    """How long the requests of one route took: [len(BOUNDS_S) + 1] counts, and their sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0


class Metrics:
    """Of requests and calls; other parts count for themselves."""

    def __init__(self) -> None:
        self.in_flight = 0
        """Requests being answered."""
        self._requests: dict[tuple[str, int], int] = {}
        self._latency: dict[str, _Latency] = {}
        self._calls: dict[tuple[str, str], int] = {}
        self._prompt_tokens = 0
        self._new_prompt_tokens = 0
        self._completion_tokens = 0
        self._undelivered = 0

    def answered(self, route: str, status: int, took_s: float) -> None:
        """A request is over. Status 499: its client went away. `route`: of the table of routes, never a path."""
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
        first = drafts[0]
        new = count(first.delta)
        self._prompt_tokens += first.keep + new
        self._new_prompt_tokens += new
        if not first.delivered:
            self._undelivered += 1

    def families(self) -> list[Family]:
        """All of them."""
        latency = {(route,): (one.counts, one.sum_s) for route, one in self._latency.items()}
        tokens = {("prompt",): self._prompt_tokens, ("completion",): self._completion_tokens}
        return [
            gauge("moorage_requests_in_flight", "Requests being answered, model calls or not.", self.in_flight),
            counter(
                "moorage_requests",
                "Requests answered, by route and status; 499: the client went away.",
                self._by_status(),
                *("route", "status"),
            ),
            histogram(
                "moorage_request_seconds",
                "From a request's last byte to its reply's, by route.",
                BOUNDS_S,
                latency,
                "route",
            ),
            counter(
                "moorage_calls",
                "Model calls recorded, by how the prompt continues its session, and why it does not.",
                self._calls,
                *("verdict", "reason"),
            ),
            counter(
                "moorage_calls_undelivered",
                "Requests recorded of which the client did not take the whole reply.",
                self._undelivered,
            ),
            counter("moorage_tokens", "Tokens recorded: of whole prompts, and sampled.", tokens, "kind"),
            counter(
                "moorage_new_prompt_tokens",
                "Prompt tokens recorded that no earlier call of the session had.",
                self._new_prompt_tokens,
            ),
        ]

    def _by_status(self) -> dict[tuple[str, ...], float]:
        told: dict[tuple[str, ...], float] = {}
        for (route, status), number in self._requests.items():
            named = (route, str(status) if status in STATUSES else "other")
            told[named] = told.get(named, 0) + number
        return told
