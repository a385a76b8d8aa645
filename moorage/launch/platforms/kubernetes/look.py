"""Looking at services in a cluster: a few listings for all of them, and events only of what is in trouble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from moorage.errors import MoorageError
from moorage.launch.platforms.kubernetes.names import object_name, selector_of
from moorage.launch.platforms.kubernetes.states import Found, node_address, sort_objects, troubled_uids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moorage.launch.entry import Entry
    from moorage.launch.platforms.kubernetes.client import Cluster

MOST_TROUBLED = 20
"""Services in trouble whose events are read in one look; each costs a request."""


def look(cluster: Cluster, namespace: str, entries: Sequence[Entry]) -> tuple[dict[str, Found], float]:
    """(`job_id` → what there is of it, the cluster's clock in seconds since the epoch). Raises as `Cluster` does."""
    ours = [entry for entry in entries if is_ours(entry)]
    found, now_s = _look_at_ours(cluster, namespace, ours)
    for entry in entries:
        if not is_ours(entry):
            found[str(entry["job_id"])], now_s = _look_at_foreign(cluster, namespace, str(entry["platform_job_id"]))
    _add_events(cluster, namespace, entries, found)
    _add_addresses(cluster, entries, found)
    return found, now_s


def by_place(entries: Sequence[Entry], *, namespace: str) -> Iterator[tuple[str | None, str, list[Entry]]]:
    """(context, namespace, entries there); what an entry does not say is the current context and `namespace`."""
    places: dict[tuple[str | None, str], list[Entry]] = {}
    for entry in entries:
        place = entry.get("context"), str(entry.get("namespace") or namespace)
        places.setdefault(place, []).append(entry)
    for (context, there), group in places.items():
        yield context, there, group


def is_ours(entry: Mapping[str, Any]) -> bool:
    """Whether the service is known by our labels; a tool that follows the TAO skill names its job as it likes."""
    return entry.get("platform_job_id") in (None, "", object_name(str(entry["job_id"])))


def kind_of(entry: Mapping[str, Any]) -> str:
    return "jobs" if entry.get("as_job") or not is_ours(entry) else "deployments"


def _look_at_ours(cluster: Cluster, namespace: str, entries: Sequence[Entry]) -> tuple[dict[str, Found], float]:
    ids = [str(entry["job_id"]) for entry in entries]
    if not ids:
        return {}, 0.0
    from moorage.launch.platforms.kubernetes.client import path_of

    selector = selector_of(ids)
    # The pods last: one that is there has its workload in the older listing, or is being deleted.
    workloads = [
        item
        for kind in sorted({kind_of(entry) for entry in entries})
        for item in cluster.items(namespace, kind, labelSelector=selector)
    ]
    services = []
    if any(entry.get("access") != "port-forward" for entry in entries):
        services = cluster.items(namespace, "services", labelSelector=selector)
    answer = cluster.get(path_of(namespace, "pods"), labelSelector=selector)
    pods = answer.body.get("items") or []
    return sort_objects(ids, workloads, pods, services), _seconds(answer.date)


def _look_at_foreign(cluster: Cluster, namespace: str, name: str) -> tuple[Found, float]:
    """A job and a service of the same name."""
    from moorage.launch.platforms.kubernetes.client import path_of

    found = Found()
    found.workload = _read(cluster, namespace, "jobs", name)
    found.service = _read(cluster, namespace, "services", name)
    answer = cluster.get(path_of(namespace, "pods"), labelSelector=f"job-name={name}")
    found.pods = answer.body.get("items") or []
    return found, _seconds(answer.date)


def _read(cluster: Cluster, namespace: str, kind: str, name: str) -> dict[str, Any] | None:
    from moorage.launch.platforms.kubernetes.client import is_gone, path_of

    try:
        return cluster.get(path_of(namespace, kind, name)).body
    except MoorageError as fault:
        if is_gone(fault):
            return None
        raise


def _add_events(cluster: Cluster, namespace: str, entries: Sequence[Entry], found: Mapping[str, Found]) -> None:
    """Events explain; without leave to read them, all else still holds."""
    troubled = [(found[str(entry["job_id"])], entry) for entry in entries]
    left = MOST_TROUBLED
    for of_entry, entry in troubled:
        for uid in troubled_uids(of_entry, entry):
            if left == 0:
                return
            left -= 1
            try:
                selector = f"involvedObject.uid={uid}"
                of_entry.events[uid] = [*cluster.items(namespace, "events", fieldSelector=selector)]
            except MoorageError:
                return


def _add_addresses(cluster: Cluster, entries: Sequence[Entry], found: Mapping[str, Found]) -> None:
    """Of the nodes that services with a node port are on. Often nodes may not be read: the pod tells an address too."""
    known: dict[str, str] = {}
    for entry in entries:
        of_entry = found[str(entry["job_id"])]
        node = ((of_entry.pod or {}).get("spec") or {}).get("nodeName")
        if entry.get("access") != "node-port" or not node:
            continue
        if node not in known:
            known[node] = _address(cluster, node)
        of_entry.addresses = {name: address for name, address in known.items() if address}


def _address(cluster: Cluster, node: str) -> str:
    from moorage.launch.platforms.kubernetes.client import path_of

    try:
        return node_address(cluster.get(path_of(None, "nodes", node)).body) or ""
    except MoorageError:
        return ""


def _seconds(date: str) -> float:
    """Seconds since the epoch of an HTTP date; this machine's clock without one."""
    import time
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return time.time()
