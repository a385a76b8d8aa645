"""What is told of the process and of the disk under its store."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from pathlib import Path

from prometheus_client import ProcessCollector

from moorage.gateway.metrics.family import Family, Kind, Sample, gauge

__all__ = ["build_family", "disk_families", "process_families"]


def build_family() -> Family:
    """Which version runs."""
    try:
        version = metadata.version("moorage")
    except metadata.PackageNotFoundError:  # from a checkout
        version = "unknown"
    labels = {(version, platform.python_version()): 1.0}
    return gauge("moorage_build_info", "1, for the version that runs.", labels, *("version", "python"))


def process_families() -> list[Family]:
    """CPU seconds, memory, open files and start time, under the names that all Prometheus clients use."""
    found = []
    for metric in ProcessCollector(registry=None).collect():
        samples = [Sample(one.name.removeprefix(metric.name), dict(one.labels), one.value) for one in metric.samples]
        kind: Kind = "counter" if metric.type == "counter" else "gauge"
        found.append(Family(name=metric.name, kind=kind, help=metric.documentation, samples=samples))
    return found


def disk_families(db: str) -> list[Family]:
    """Of a store that is a file: its size with its log, and what is free beside it. Nothing of a database server."""
    scheme, _, place = db.partition(":///")
    if scheme != "sqlite" or not place:
        return []
    file = Path(place)
    try:
        size = sum(one.stat().st_size for one in (file, Path(f"{file}-wal")) if one.exists())
        free = shutil.disk_usage(file.parent).free
    except OSError:
        return []  # away: the store's faults tell
    return [
        gauge("moorage_store_bytes", "Size of the store's file and its log.", size, shared=True),
        gauge("moorage_store_disk_free_bytes", "Free on the disk that the store is on.", free, shared=True),
    ]
