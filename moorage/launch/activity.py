"""When a service was last used, as the service itself tells.

Engines tell by Prometheus counters that move with every request and gauges of what is running; TAO's container servers
by their liveness body. What cannot be read counts as use: a service is never stopped for a reading that failed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from moorage.launch.entry import Entry
from moorage.launch.plane import Plane
from moorage.launch.probe import base_url, fetcher
from moorage.launch.readiness import Answer

TIMEOUT_S = 5.0
GAUGE_WORDS = ("running", "waiting", "queue")


@dataclass(frozen=True, slots=True)
class Activity:
    """What is known so far."""

    last_used_s: float
    """Seconds since the epoch."""
    counters: tuple[tuple[str, float], ...] | None = None
    """The counters of the last reading; None before the first."""


def read_activity(plane: Plane, entry: Entry, before: Activity, *, now_s: float) -> Activity:
    """Ask the service once."""
    command = plane.catalog.service.container_commands.get(str(entry.get("network_arch")))
    signal = command.idle_signal if command else "liveness"
    path = "/metrics" if signal == "metrics" else "/api/v1/health/liveness"
    answer = fetcher(entry, plane.environ)(base_url(entry) + path, TIMEOUT_S) if entry.get("host_url") else None
    if signal == "metrics" and command is not None:
        return from_metrics(answer, before, command.activity_metrics, now_s=now_s)
    return from_liveness(answer, before, now_s=now_s)


def from_metrics(answer: Answer | None, before: Activity, names: list[str], *, now_s: float) -> Activity:
    """Used now when a counter moved since the last reading, or a gauge of running requests is above zero."""
    if answer is None or answer.status != 200:
        return replace(before, last_used_s=now_s)
    values = parse_metrics(answer.body.decode("utf-8", "replace"), names)
    if not values:
        return replace(before, last_used_s=now_s)
    counters = tuple(sorted((name, value) for name, value in values.items() if not _is_gauge(name)))
    running = any(value > 0 for name, value in values.items() if _is_gauge(name))
    if running or counters != before.counters:
        return Activity(last_used_s=now_s, counters=counters)
    return replace(before, counters=counters)


def from_liveness(answer: Answer | None, before: Activity, *, now_s: float) -> Activity:
    """Last used as the body says; not ready, or no such body, counts as use."""
    body = _parse(answer)
    idle_minutes = body.get("idle_time_minutes")
    if body.get("model_loaded") is not True or not isinstance(idle_minutes, int | float):
        return replace(before, last_used_s=now_s)
    return replace(before, last_used_s=now_s - 60.0 * idle_minutes)


def parse_metrics(text: str, names: list[str]) -> dict[str, float]:
    """Name → sum over its series (Prometheus text format 0.0.4); names that are not there are left out."""
    values: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        known = next((one for one in names if name in (one, f"{one}_total")), None)
        if known is None:
            continue
        try:
            values[known] = values.get(known, 0.0) + float(line.rpartition("} ")[2].split()[-1])
        except (ValueError, IndexError):
            continue
    return values


def _is_gauge(name: str) -> bool:
    return any(word in name for word in GAUGE_WORDS)


def _parse(answer: Answer | None) -> dict[str, Any]:
    if answer is None or answer.status != 200:
        return {}
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
