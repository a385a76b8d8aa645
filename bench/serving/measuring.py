"""The measurement, its table, and what has to hold."""

from __future__ import annotations

import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.report import Result, Row, median, median_ratio
from bench.serving.declared import declare_models, settled, store_url
from bench.serving.server import asked_s, serving
from moorage.serving.plan.plan import plan
from moorage.serving.plan.policy import Policy
from moorage.serving.store.opening import open_store

__all__ = ["GATES", "SLACK", "measure"]

FEW, MANY = 100, 1000
REQUESTS = 400
"""Of each kind a round."""
PASSES = 30
PAGE = "/api/v2/serve/models?limit=100"
GATES = {"page/health": 20.0, "plan": 12.0, "idle pass": 12.0}
"""By the name of the figure: the largest ratio that is allowed."""
SLACK = 1.3
"""A machine that others use as well moves a ratio by a third; a gate fails only above that."""


@dataclass(frozen=True, slots=True)
class Passes:
    """CPU seconds, a median of PASSES a round."""

    plan_s: list[float]
    idle_s: list[float]


def measure(rounds: int = 5) -> Result:
    """`rounds`: how often each is measured, one beside the other."""
    with tempfile.TemporaryDirectory() as folder:
        places = {count: Path(folder) / str(count) for count in (FEW, MANY)}
        for place in places.values():
            place.mkdir()
        print(f"declaring {FEW} and {MANY} models", file=sys.stderr, flush=True)
        tokens = {count: declare_models(place, count) for count, place in places.items()}
        passes = _passes(places, rounds)
        health_s, page_s, shown_s = _requests(places[MANY], tokens[MANY], rounds)
    few, many = passes[FEW], passes[MANY]
    figures = {
        "page/health": median_ratio(page_s, health_s),
        "plan": median_ratio(many.plan_s, few.plan_s),
        "idle pass": median_ratio(many.idle_s, few.idle_s),
    }
    rows = [
        Row("GET /health, p99", 1000 * median(health_s), "ms"),
        Row(f"page of 100 of {MANY} models, p99", 1000 * median(page_s), "ms", figures["page/health"]),
        Row(f"page of 100 of {MANY} models, median", 1000 * median(shown_s), "ms"),
        Row(f"plan of {FEW} models, CPU", 1000 * median(few.plan_s), "ms"),
        Row(f"plan of {MANY} models, CPU", 1000 * median(many.plan_s), "ms", figures["plan"]),
        Row(f"idle pass over {FEW} models, CPU", 1000 * median(few.idle_s), "ms"),
        Row(f"idle pass over {MANY} models, CPU", 1000 * median(many.idle_s), "ms", figures["idle pass"]),
    ]
    return Result("serving control plane", rows, figures)


def _passes(places: dict[int, Path], rounds: int) -> dict[int, Passes]:
    found = {count: Passes([], []) for count in places}
    with closing(open_store(store_url(places[FEW]))) as few, closing(open_store(store_url(places[MANY]))) as many:
        stands = [(count, store, *settled(store)) for count, store in ((FEW, few), (MANY, many))]
        for _ in range(rounds):
            for count, store, reconciler, backend in stands:
                models, seen = store.live(), backend.observe()
                found[count].plan_s.append(
                    _median_s(lambda m=models, s=seen, b=backend: plan(m, s, time.time(), Policy(), digest=b.digest))
                )
                found[count].idle_s.append(_median_s(reconciler.run_once))
    return found


def _requests(place: Path, token: str, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """p99 of health checks and of pages, and the median of pages: seconds, one a round."""
    health, pages, medians = [], [], []
    with serving(place, MANY) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for path in ("/health", PAGE):
            asked_s(connection, path, token, 50)
        for _ in range(rounds):
            health.append(_p99(asked_s(connection, "/health", token, REQUESTS)))
            taken_s = asked_s(connection, PAGE, token, REQUESTS)
            pages.append(_p99(taken_s))
            medians.append(median(taken_s))
        connection.close()
    return health, pages, medians


def _median_s(work: Callable[[], object]) -> float:
    """Of this thread's own time on the CPU: what else the machine does is left out."""
    taken_s = []
    for _ in range(PASSES):
        began = time.thread_time()
        work()
        taken_s.append(time.thread_time() - began)
    return median(taken_s)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
