"""The log of a service: of the container that counts, though the cluster may have started another one after it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from moorage.errors import MoorageError, NotFoundError, UsageError
from moorage.launch.entry import Entry
from moorage.launch.interrupts import raise_if_interrupted
from moorage.launch.platforms.docker.container import lines_of
from moorage.launch.platforms.kubernetes.client import Cluster, path_of
from moorage.launch.platforms.kubernetes.look import look
from moorage.launch.platforms.kubernetes.pods import has_started, restarts_of
from moorage.launch.platforms.kubernetes.states import Found, life_of
from moorage.launch.platforms.life import Life

LOOK_EVERY_S = 0.3
READ_TRIES = 12
LOST = re.compile(
    r"unable to retrieve container logs for \w+://"
    r'|failed to (?:try resolving symlinks in path|open log file) "/var/log/pods/'
)
"""How what a node gives instead of a log begins, when it has thrown the container away and has not told yet."""


def read_log(cluster: Cluster, namespace: str, entry: Entry, *, tail: int | None) -> Iterator[str]:
    """What was written so far; nothing before the container runs."""
    lines: list[str] = []
    for _ in range(READ_TRIES):
        found, life = _look(cluster, namespace, entry)
        pod = found.pod
        if pod is None or not has_started(pod):
            break
        if life.state == "exited" and not _is_leaving(found):
            read = _read_ended(cluster, namespace, pod, tail)
            is_sure = read is not None
        else:
            read = _read(cluster, namespace, pod, tail)
            is_sure = read is not None and _instance(_look(cluster, namespace, entry)[0]) == _instance(found)
        lines = lines if read is None else read
        if is_sure:
            break
        time.sleep(LOOK_EVERY_S)
    yield from lines


def follow_log(cluster: Cluster, namespace: str, entry: Entry, *, tail: int | None) -> Iterator[str]:
    """Lines as they come, until the service ends; waits for it to begin."""
    followed = None
    while True:
        found, life = _look(cluster, namespace, entry)
        pod, instance = found.pod, _instance(found)
        if life.state == "exited" or life.outlook == "failed":
            if followed is None:
                yield from read_log(cluster, namespace, entry, tail=tail)
            return
        if pod is not None and instance != followed and has_started(pod):
            try:
                yield from _lines(cluster, namespace, pod, tail=tail, follow=True)
            except _LostLog:
                pass  # it is looked at again
            else:
                followed, tail = instance, None
                continue
        raise_if_interrupted()
        time.sleep(LOOK_EVERY_S)


class _LostLog(Exception):
    """The node has thrown the log away, or has none yet."""


def _look(cluster: Cluster, namespace: str, entry: Entry) -> tuple[Found, Life]:
    found, now_s = look(cluster, namespace, [entry])
    mine = found[str(entry["job_id"])]
    return mine, life_of(mine, entry, now_s=now_s)


def _instance(found: Found) -> tuple[str, int] | None:
    """Which run of which container."""
    pod = found.pod
    return (str(pod["metadata"]["uid"]), restarts_of(pod)) if pod is not None else None


def _is_leaving(found: Found) -> bool:
    return found.workload is None or bool(found.workload["metadata"].get("deletionTimestamp"))


def _read_ended(cluster: Cluster, namespace: str, pod: Any, tail: int | None) -> list[str] | None:
    """Of the run that ended. The cluster starts it again at once, keeps one dead run, and tells of both a moment late.

    Once it is started again its log is that of the run before; there was none before and after the reading of the
    present one when that is the one that ended.
    """
    before = _read(cluster, namespace, pod, tail, previous=True)
    if before is not None:
        return before
    present = _read(cluster, namespace, pod, tail)
    before = _read(cluster, namespace, pod, tail, previous=True)
    return present if before is None else before


def _read(cluster: Cluster, namespace: str, pod: Any, tail: int | None, *, previous: bool = False) -> list[str] | None:
    """All lines; None when there is no such log."""
    try:
        return list(_lines(cluster, namespace, pod, tail=tail, previous=previous))
    except _LostLog:
        return None


def _lines(
    cluster: Cluster, namespace: str, pod: Any, *, tail: int | None, follow: bool = False, previous: bool = False
) -> Iterator[str]:
    """`previous`: of the run before. Raises _LostLog before the first line."""
    path = path_of(namespace, "pods", pod["metadata"]["name"], "log")
    pieces = cluster.stream(path, follow=follow, tailLines=tail, previous="true" if previous else None)
    is_first = True
    try:
        for line in lines_of(pieces):
            if is_first and LOST.match(line):
                raise _LostLog
            is_first = False
            yield line
    except (NotFoundError, UsageError):
        raise _LostLog from None
    except MoorageError as fault:
        if fault.code == "namespace_missing":
            raise _LostLog from None
        raise
