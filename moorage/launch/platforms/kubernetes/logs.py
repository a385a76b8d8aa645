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
READ_TRIES = 8
LOST = "unable to retrieve container logs for "
"""What a node gives instead of a log when it has thrown the container away, and has not told yet."""


def read_log(cluster: Cluster, namespace: str, entry: Entry, *, tail: int | None) -> Iterator[str]:
    """What was written so far; nothing before the container runs."""
    lines: list[str] = []
    for _ in range(READ_TRIES):
        found, life = _look(cluster, namespace, entry)
        pod = found.pod
        if pod is None or not has_started(pod):
            break
        lines = list(lines_of(_pieces(cluster, namespace, pod, life, tail=tail, follow=False)))
        is_lost = len(lines) == 1 and lines[0].startswith(LOST)
        if not is_lost and _instance(_look(cluster, namespace, entry)[0]) == _instance(found):
            break
        # It was started again meanwhile, and the log may be of either run.
        lines = [] if is_lost else lines
        time.sleep(LOOK_EVERY_S)
    yield from lines


def follow_log(cluster: Cluster, namespace: str, entry: Entry, *, tail: int | None) -> Iterator[str]:
    """Lines as they come, until the service ends; waits for it to begin."""
    followed = None
    while True:
        found, life = _look(cluster, namespace, entry)
        pod, instance = found.pod, _instance(found)
        is_over = life.state == "exited" or life.outlook == "failed"
        is_new = pod is not None and instance != followed and has_started(pod)
        if pod is not None and is_new and not (is_over and followed is not None):
            lines = lines_of(_pieces(cluster, namespace, pod, life, tail=tail, follow=True))
            yield from (line for line in lines if not line.startswith(LOST))
            followed, tail = instance, None
            continue
        if is_over:
            return
        raise_if_interrupted()
        time.sleep(LOOK_EVERY_S)


def _look(cluster: Cluster, namespace: str, entry: Entry) -> tuple[Found, Life]:
    found, now_s = look(cluster, namespace, [entry])
    mine = found[str(entry["job_id"])]
    return mine, life_of(mine, entry, now_s=now_s)


def _instance(found: Found) -> tuple[str, int] | None:
    """Which run of which container."""
    pod = found.pod
    return (str(pod["metadata"]["uid"]), restarts_of(pod)) if pod is not None else None


def _pieces(
    cluster: Cluster, namespace: str, pod: Any, life: Life, *, tail: int | None, follow: bool
) -> Iterator[bytes]:
    """Of the run before, when that one's end was the service's end."""
    previous = life.state == "exited" and restarts_of(pod) > 0
    path = path_of(namespace, "pods", pod["metadata"]["name"], "log")
    pieces = cluster.stream(path, follow=follow and not previous, tailLines=tail, previous="true" if previous else None)
    try:
        yield from pieces
    except (NotFoundError, UsageError):
        return  # the node has thrown it away, or has none yet
    except MoorageError as fault:
        if fault.code == "namespace_missing":
            return
        raise
