"""The log of a service: of the container that counts, though the cluster may have started another one after it."""

from __future__ import annotations

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
LOST = "unable to retrieve container logs for "
"""What a node gives instead of a log when it has thrown the container away, and has not told yet."""


def read_log(cluster: Cluster, namespace: str, entry: Entry, *, tail: int | None) -> Iterator[str]:
    """What was written so far; nothing before the container runs.

    The cluster starts a container that died again, keeps one dead run of it, and tells of that a moment late: what is
    read meanwhile may be of either run, half of one, or nothing. So the log of one that has ended counts when it was
    read twice alike.
    """
    lines: list[str] | None = None
    before: tuple[object, list[str] | None] | None = None
    for _ in range(READ_TRIES):
        found, life = _look(cluster, namespace, entry)
        pod, instance = found.pod, _instance(found)
        if pod is None or not has_started(pod):
            break
        try:
            lines = list(_lines(cluster, namespace, pod, life, tail=tail, follow=False))
        except _LostLog:
            lines = None
        seen = instance, lines
        is_sure = (
            seen == before if life.state == "exited" else instance == _instance(_look(cluster, namespace, entry)[0])
        )
        if lines is not None and is_sure:
            break
        before = seen
        time.sleep(LOOK_EVERY_S)
    yield from lines or []


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
                yield from _lines(cluster, namespace, pod, life, tail=tail, follow=True)
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


def _lines(cluster: Cluster, namespace: str, pod: Any, life: Life, *, tail: int | None, follow: bool) -> Iterator[str]:
    """Of the run before, when that one's end was the service's end. Raises _LostLog before the first line."""
    previous = life.state == "exited" and restarts_of(pod) > 0
    path = path_of(namespace, "pods", pod["metadata"]["name"], "log")
    pieces = cluster.stream(path, follow=follow and not previous, tailLines=tail, previous="true" if previous else None)
    is_first = True
    try:
        for line in lines_of(pieces):
            if is_first and line.startswith(LOST):
                raise _LostLog
            is_first = False
            yield line
    except (NotFoundError, UsageError):
        raise _LostLog from None
    except MoorageError as fault:
        if fault.code == "namespace_missing":
            raise _LostLog from None
        raise
