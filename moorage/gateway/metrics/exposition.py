"""Families as Prometheus's text; those of several workers together, each under its worker's number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from moorage.gateway.metrics.family import Family

__all__ = ["CONTENT_TYPE", "text_of"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def text_of(mine: Sequence[Family], others: Mapping[str, Sequence[Family]] | None = None, worker: str = "") -> bytes:
    """`others`: what other workers say, by their number; `worker`: our own. None: there are none, and no label."""
    registry = CollectorRegistry()
    registry.register(_Merged([(worker if others is not None else None, mine), *(others or {}).items()]))
    return generate_latest(registry)


class _Merged:
    """What prometheus_client asks for the metrics."""

    def __init__(self, workers: Sequence[tuple[str | None, Sequence[Family]]]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """One metric a family."""
        found: dict[str, Metric] = {}
        for position, (worker, families) in enumerate(self._workers):
            for family in families:
                if family.shared and position:
                    continue  # it tells of the store: one worker has said it
                metric = found.get(family.name)
                if metric is None:
                    metric = found[family.name] = Metric(family.name, family.help, family.kind)
                number = {} if worker is None or family.shared else {"worker": worker}
                for sample in family.samples:
                    metric.add_sample(family.name + sample.suffix, {**sample.labels, **number}, sample.value)
        yield from found.values()
