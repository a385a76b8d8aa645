"""What tests ask of a cluster as its administrator: which objects there are, and that something comes to be so."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.real.parts.kubernetes_cluster import KubernetesCluster

WAIT_S = 90.0
"""Generous: the machine may be busy with other things."""

Entry = dict[str, Any]


def until(condition: Callable[[], Any], *, within_s: float = WAIT_S) -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.1)


def address_of(manifest: dict[str, Any]) -> str:
    """The path of the object that the manifest describes."""
    group = {"Deployment": "/apis/apps/v1", "Job": "/apis/batch/v1"}.get(manifest["kind"], "/api/v1")
    metadata = manifest["metadata"]
    return f"{group}/namespaces/{metadata['namespace']}/{manifest['kind'].lower()}s/{metadata['name']}"


def leftovers(cluster: KubernetesCluster, entry: Entry) -> list[str]:
    """Kinds of the objects that the cluster has of a service."""
    place = f"/namespaces/{entry.get('namespace', 'default')}"
    kinds = ("apps/v1/deployments", "apps/v1/replicasets", "batch/v1/jobs", "services", "secrets", "pods")
    found = []
    for kind in kinds:
        group, _, name = kind.rpartition("/")
        base = f"/apis/{group}" if group else "/api/v1"
        query = f"?labelSelector=moorage.job_id%3D{entry['job_id']}"
        found += [name] * len(cluster.get(f"{base}{place}/{name}{query}")["items"])
    return found


def pods_of(cluster: KubernetesCluster, entry: Entry) -> list[str]:
    items = cluster.get(f"/api/v1/namespaces/default/pods?labelSelector=moorage.job_id%3D{entry['job_id']}")["items"]
    return [item["metadata"]["name"] for item in items]


def events(cluster: KubernetesCluster) -> dict[str, Any]:
    return cluster.get("/api/v1/events")


def processes() -> str:
    """Every command line of this machine."""
    return subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout


def tunnels_of(entries: Iterable[Entry]) -> str:
    """The environments of processes that name one of these services."""
    ids = {entry["job_id"] for entry in entries}
    texts = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            text = file.read_bytes().decode(errors="replace")
        except OSError:
            continue
        texts += [text] if any(f"MOORAGE_TUNNEL={job_id}" in text for job_id in ids) else []
    return "\n".join(texts)


def get(url: str) -> str | None:
    """The body; None when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            body: bytes = reply.read()
            return body.decode()
    except OSError:
        return None


def make_claim(cluster: KubernetesCluster, folder: Path, name: str) -> None:
    """A claim on a folder of the node."""
    size, mode = {"storage": "1Gi"}, ["ReadWriteMany"]
    volume = {"capacity": size, "accessModes": mode, "hostPath": {"path": str(folder)}, "storageClassName": "folder"}
    cluster.create("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": volume})
    claim = {"accessModes": mode, "storageClassName": "folder", "resources": {"requests": size}, "volumeName": name}
    path = "/api/v1/namespaces/default/persistentvolumeclaims"
    cluster.create(path, {"metadata": {"name": name}, "spec": claim})
    until(lambda: cluster.get(f"{path}/{name}")["status"]["phase"] == "Bound")
