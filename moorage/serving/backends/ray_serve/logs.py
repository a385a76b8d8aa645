"""The last lines of an application's replicas, read through Ray's REST."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorage.serving.backends.ray_serve.rendering import INGRESS
from moorage.serving.backends.ray_serve.rest import RayRest

__all__ = ["LogPlace", "merged", "places", "read_logs"]

MARKS = (":job_id:", ":actor_name:", ":task_name:")
"""What Ray writes between the lines of a worker."""
STAMP = re.compile(r"(\d\d-?\d\d) (\d\d:\d\d:\d\d(?:[.,]\d+)?)")
"""Month, day and time, as Serve, the engine and torch write them."""
STAMP_WITHIN = 80


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where one replica writes to."""

    replica: str
    node_id: str
    serve_log: str
    """What Serve says of the replica."""
    worker_id: str
    """Names the files of what the engine itself prints."""


def places(application: Mapping[str, Any]) -> list[LogPlace]:
    """Of the model's replicas; when there is none, of those that died lately."""
    of_model = [one for name, one in sorted((application.get("deployments") or {}).items()) if name != INGRESS]
    living = [replica for one in of_model for replica in one.get("replicas") or ()]
    dead = [replica for one in of_model for replica in one.get("recent_dead_replicas") or ()]
    return [
        LogPlace(
            replica=str(replica.get("replica_id", "?")),
            node_id=str(replica["node_id"]),
            serve_log=str(replica.get("log_file_path") or "").lstrip("/"),
            worker_id=str(replica.get("worker_id") or ""),
        )
        for replica in living or dead
        if replica.get("node_id")
    ]


def read_logs(rest: RayRest, application: Mapping[str, Any], lines: int) -> Iterator[str]:
    """`REPLICA: line`, the last ones of each replica, of all its files in the order of their times."""
    for place in places(application):
        files = [place.serve_log] if place.serve_log else []
        if place.worker_id:
            files += rest.log_files(place.node_id, f"worker-{place.worker_id}*")
        read = [rest.log(place.node_id, file, lines) for file in files]
        for line in merged(read)[-lines:] if lines > 0 else ():
            yield f"{place.replica}: {line}"


def merged(files: Sequence[Sequence[str]]) -> list[str]:
    """Lines of several files by their times. One without a time belongs to the one before it."""
    stamped: list[tuple[str, str]] = []
    for lines in files:
        stamp = ""
        for line in lines:
            if not line.strip() or line.startswith(MARKS):
                continue
            found = STAMP.search(line[:STAMP_WITHIN])
            if found is not None:
                stamp = f"{found[1].replace('-', '')} {found[2].replace(',', '.')}"
            stamped.append((stamp, line))
    return [line for _, line in sorted(stamped, key=lambda one: one[0])]
