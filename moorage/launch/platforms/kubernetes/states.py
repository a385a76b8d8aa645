"""Whether a service lives, and where it is reached, from the objects that it is made of. Pure, and light."""

from __future__ import annotations

from moorage.launch.platforms.kubernetes.names import job_of, job_selector
from moorage.launch.platforms.kubernetes.pods import (
    container_of,
    newest_pod,
    restarts_of,
    seconds_of,
    sign_of,
    unanswered_words,
)
from moorage.launch.platforms.life import Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from moorage.launch.entry import Entry

    Json = Mapping[str, Any]

STARTING_S = 120.0
"""How long a workload may be there without being let run, before its start counts as cut off."""
SERVICE_PORT = 8080


class Found:
    """What a cluster has of one service."""

    __slots__ = ("addresses", "events", "pods", "service", "workload")

    def __init__(self) -> None:
        self.workload: Json | None = None
        """The Deployment or Job."""
        self.service: Json | None = None
        self.pods: list[Json] = []
        self.events: dict[str, list[Json]] = {}
        """By the uid of the object that they are about; only of objects that are in trouble."""
        self.addresses: dict[str, str] = {}
        """Node → the address that others reach it at; empty when nodes may not be read."""

    @property
    def pod(self) -> Json | None:
        """The one that counts."""
        return newest_pod(self.pods)


def sort_objects(
    job_ids: Iterable[str], workloads: Iterable[Json], pods: Iterable[Json], services: Iterable[Json]
) -> dict[str, Found]:
    """`job_id` → what there is of it; of nothing too."""
    found = {job_id: Found() for job_id in job_ids}
    for workload in workloads:
        if job_of(workload) in found:
            found[str(job_of(workload))].workload = workload
    for service in services:
        if job_of(service) in found:
            found[str(job_of(service))].service = service
    for pod in pods:
        if job_of(pod) in found:
            found[str(job_of(pod))].pods.append(pod)
    return found


def troubled_uids(found: Found, entry: Mapping[str, Any]) -> list[str]:
    """The objects whose events say what is wrong; none of a service that is well."""
    workload, pod, service = found.workload, found.pod, found.service
    if workload is None or _is_leaving(workload):
        return []
    if pod is None:
        return [str(workload["metadata"]["uid"])]
    if not (container_of(pod) or {}).get("ready"):
        return [str(pod["metadata"]["uid"])]
    without_address = entry.get("access") == "load-balancer" and service is not None and not _ingress(service)
    return [str(service["metadata"]["uid"])] if without_address and service is not None else []


def life_of(found: Found, entry: Mapping[str, Any], *, now_s: float) -> Life:
    """Whether it lives. `now_s`: the cluster's clock, seconds since the epoch."""
    workload, pod = found.workload, found.pod
    if workload is None:
        return _without_workload(found)
    if _is_leaving(workload):
        return Life(state="exited", detail="being deleted")
    fields = address_fields(found, entry)
    if pod is None:
        return _without_pod(found, workload, now_s, fields)
    sign = sign_of(pod, found.events.get(str(pod["metadata"]["uid"])) or [], now_s=now_s)
    match sign.meaning:
        case "failed":
            return Life(state="alive", detail=sign.detail, outlook="failed", fields=fields)
        case "no_room":
            return Life(state="alive", detail=sign.detail, outlook="no_capacity", fields=fields)
        case "ended":
            return Life(state="exited", detail=sign.detail)
        case "starting":
            return Life(state="alive", detail=sign.detail, fields=fields)
    return _begun(found, sign.meaning, sign.detail, entry, fields)


def address_fields(found: Found, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Where the service is reached, as far as the cluster knows; {} for access by port-forward."""
    service, access = found.service, entry.get("access")
    if service is None or access == "port-forward":
        return {}
    spec = service.get("spec") or {}
    if access == "load-balancer":
        address = _ingress(service)
        return {"host_url": url_of(address, SERVICE_PORT) if address else None}
    if access == "node-port":
        return _node_fields(found, spec)
    address = spec.get("clusterIP")
    return {"host_url": url_of(str(address), SERVICE_PORT)} if address and address != "None" else {}


def url_of(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def node_address(node: Json) -> str | None:
    """The address of a node that others reach it at; None when it tells none."""
    addresses = (node.get("status") or {}).get("addresses") or []
    for kind in ("ExternalIP", "ExternalDNS", "InternalIP"):
        for item in addresses:
            if item.get("type") == kind and item.get("address"):
                return str(item["address"])
    return None


def container_port(found: Found) -> int:
    """Where the server listens in its container."""
    containers = ((found.pod or {}).get("spec") or {}).get("containers") or [{}]
    ports = containers[0].get("ports") or [{}]
    return int(ports[0].get("containerPort") or SERVICE_PORT)


def tunnel_route(entry: Entry, port: int) -> dict[str, Any]:
    """The way to the service through the cluster's own door."""
    selector = job_selector(str(entry["job_id"]))
    place = {name: entry.get(name) for name in ("context", "namespace")}
    return {"kind": "kubernetes", **place, "selector": selector, "port": port}


def was_ready(workload: Json) -> bool:
    """Whether a Deployment's pod was ever ready: the cluster keeps that as the reason of a condition."""
    conditions = (workload.get("status") or {}).get("conditions") or []
    reasons = {item.get("reason") for item in conditions if item.get("type") == "Progressing"}
    return "NewReplicaSetAvailable" in reasons


def _begun(found: Found, meaning: str, ending: str | None, entry: Mapping[str, Any], fields: dict[str, Any]) -> Life:
    """Its container has run. One that died before it was ever ready has failed, though the cluster tries again."""
    pod, workload = found.pod, found.workload
    assert pod is not None and workload is not None
    if ending is not None and not was_ready(workload):
        return Life(state="exited", detail=ending)
    if meaning == "down":
        detail = f"the cluster starts it again after {ending}"
        return Life(state="alive", detail=detail, fields=fields)
    if meaning == "running":
        count = restarts_of(pod)
        detail = "running, not ready"
        if count:
            detail += f", started again after {ending}"
        return Life(state="alive", detail=detail, fields=fields)
    return Life(state="alive", detail=_address_words(found, entry, fields), fields=fields)


def _address_words(found: Found, entry: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    if entry.get("access") != "load-balancer" or fields.get("host_url") or found.service is None:
        return None
    events = found.events.get(str(found.service["metadata"]["uid"])) or []
    words = unanswered_words(events, "SyncLoadBalancerFailed", "AllocationFailed", "CreatingLoadBalancerFailed")
    said = f": {words}" if words else "; a cluster without load balancers gives none (--access port-forward needs none)"
    return f"ready, and the load balancer has no address yet{said}"


def _without_workload(found: Found) -> Life:
    if found.pods:
        return Life(state="exited", detail="being deleted")
    if found.service is not None:
        return Life(state="exited", detail="only its service is left")
    return Life(state="exited", detail="no such deployment", exists=False)


def _without_pod(found: Found, workload: Json, now_s: float, fields: dict[str, Any]) -> Life:
    spec, metadata = workload.get("spec") or {}, workload["metadata"]
    if spec.get("paused") or spec.get("parallelism") == 0:
        young = now_s - seconds_of(metadata.get("creationTimestamp")) < STARTING_S
        return Life(state="alive" if young else "exited", detail="created, not started", fields=fields)
    words = _refused_pod(workload, found.events.get(str(metadata["uid"])) or [])
    if words is not None:
        return Life(state="alive", detail=words, outlook="failed", fields=fields)
    if any(item.get("type") == "Failed" for item in (workload.get("status") or {}).get("conditions") or []):
        return Life(state="exited", detail="its pod is gone, and a job makes no other")
    leaving = "its pod is being replaced" if found.pods else "no pod yet"
    return Life(state="alive", detail=leaving, fields=fields)


def _refused_pod(workload: Json, events: Sequence[Json]) -> str | None:
    """Why the cluster makes no pod (a quota, a policy), in its own words; None when nothing was refused."""
    conditions = (workload.get("status") or {}).get("conditions") or []
    for item in conditions:
        if item.get("type") == "ReplicaFailure" and item.get("status") == "True":
            return f"{item.get('reason')}: {item.get('message')}"
    words = unanswered_words(events, "FailedCreate")
    return f"FailedCreate: {words}" if words else None


def _node_fields(found: Found, spec: Json) -> dict[str, Any]:
    """A node forwards the port to the pod wherever it is; the pod's own node is asked, which surely does."""
    ports = spec.get("ports") or [{}]
    port, pod = ports[0].get("nodePort"), found.pod
    if not port or pod is None:
        return {"node_port": port} if port else {}
    node = (pod.get("spec") or {}).get("nodeName")
    address = found.addresses.get(str(node)) or (pod.get("status") or {}).get("hostIP")
    return {"node_port": port, **({"host_url": url_of(str(address), port)} if address else {})}


def _ingress(service: Json) -> str | None:
    """What the load balancer is called: an address, or a host name."""
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    for item in balancer.get("ingress") or []:
        if item.get("ip") or item.get("hostname"):
            return str(item.get("ip") or item["hostname"])
    return None


def _is_leaving(thing: Json) -> bool:
    return bool(thing["metadata"].get("deletionTimestamp"))
