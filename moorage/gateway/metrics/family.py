"""One metric: its name, its kind, its help text, and its values by label. A family can travel as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

__all__ = ["Family", "Kind", "Sample", "counter", "gauge", "histogram"]

Kind = Literal["counter", "gauge", "histogram"]
Labels = dict[str, str]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value. `suffix`: what its name has beside the family's (`_total`, `_bucket` …)."""

    suffix: str
    labels: Labels
    value: float


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """`name` of a counter is without `_total`. `shared`: it tells of the store, and every worker would say the same."""

    name: str
    kind: Kind
    help: str
    samples: list[Sample]
    shared: bool = False


def counter(name: str, help: str, values: Mapping[Any, float] | float, *labels: str) -> Family:
    """`values`: by the values of the labels, a tuple each; or the one value of a family without labels."""
    return Family(name=name, kind="counter", help=help, samples=_samples("_total", values, labels))


def gauge(name: str, help: str, values: Mapping[Any, float] | float, *labels: str, shared: bool = False) -> Family:
    """The same for what also goes down."""
    return Family(name=name, kind="gauge", help=help, samples=_samples("", values, labels), shared=shared)


def histogram(
    name: str,
    help: str,
    bounds: Sequence[float],
    values: Mapping[Any, tuple[Sequence[int], float]],
    *labels: str,
) -> Family:
    """`values`: counts by bucket ([len(bounds) + 1], each by itself) and their sum, by the values of the labels."""
    samples: list[Sample] = []
    edges = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    for named, (counts, total) in values.items():
        own, sofar = dict(zip(labels, named, strict=True)), 0
        for edge, number in zip(edges, counts, strict=True):
            sofar += number
            samples.append(Sample("_bucket", {**own, "le": edge}, sofar))
        samples += [Sample("_sum", own, total), Sample("_count", own, sofar)]
    return Family(name=name, kind="histogram", help=help, samples=samples)


def _samples(suffix: str, values: Mapping[Any, float] | float, labels: tuple[str, ...]) -> list[Sample]:
    by_label = values if isinstance(values, Mapping) else {(): values}
    return [Sample(suffix, dict(zip(labels, named, strict=True)), float(value)) for named, value in by_label.items()]
