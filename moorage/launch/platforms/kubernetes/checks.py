"""What must be so before a service is started in a cluster, and what `doctor` tells of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from moorage.errors import MoorageError, PreflightError
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.kubernetes import faults
from moorage.launch.platforms.kubernetes.client import Cluster, is_gone, path_of
from moorage.launch.platforms.kubernetes.options import KubernetesOptions
from moorage.launch.platforms.life import Check

GROUPS = {"deployments": "apps", "jobs": "batch"}
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
GPU = "nvidia.com/gpu"

Right = tuple[str, str, str]
"""(verb, resource, subresource)"""


def require_namespace(cluster: Cluster, namespace: str) -> None:
    """Raises PreflightError when it is not there; one that may not be read is believed in."""
    try:
        cluster.get(path_of(None, "namespaces", namespace))
    except MoorageError as fault:
        if is_gone(fault):
            raise faults.namespace_missing(namespace, cluster.context) from fault
        if fault.code != "forbidden":
            raise


def require_rights(cluster: Cluster, options: KubernetesOptions, *, with_secrets: bool) -> None:
    """Ask the cluster whether it lets us do what a start and a stop do. Raises PreflightError naming all it denies."""
    wanted = rights_needed(options, with_secrets=with_secrets)
    denied = [_words(right) for right in wanted if not _allowed(cluster, options.namespace, right)]
    if denied:
        raise faults.not_allowed(denied, options.namespace, cluster.context)


def rights_needed(options: KubernetesOptions, *, with_secrets: bool) -> list[Right]:
    """Of the namespace."""
    kind = "jobs" if options.as_job else "deployments"
    wanted = [(verb, kind, "") for verb in ("create", "list", "patch", "delete")]
    wanted += [("create", "services", ""), ("list", "services", ""), ("delete", "services", "")]
    if with_secrets:
        wanted += [("create", "secrets", ""), ("delete", "secrets", "")]
    wanted += [("list", "pods", ""), ("get", "pods", "log")]
    return wanted + ([("get", "pods", "portforward")] if options.access == "port-forward" else [])


def require_named(cluster: Cluster, options: KubernetesOptions) -> None:
    """What flags name must be there. Raises PreflightError."""
    named = (
        ("secrets", options.image_pull_secret, "--image-pull-secret"),
        ("persistentvolumeclaims", options.pvc, "--pvc"),
    )
    for kind, name, flag in named:
        if name is None:
            continue
        try:
            cluster.get(path_of(options.namespace, kind, name))
        except MoorageError as fault:
            if is_gone(fault):
                raise faults.named_object_missing(kind.removesuffix("s"), name, flag, options.namespace) from fault
            if fault.code != "forbidden":
                raise


def needs_secrets(submission: Submission, options: KubernetesOptions) -> bool:
    return bool(submission.secret_env or options.image_pull_key_env)


def cluster_checks(cluster: Cluster, options: KubernetesOptions) -> Iterator[Check]:
    """Lines of `doctor`; the first failed one is the last when nothing after it can be asked."""
    try:
        version = cluster.get("/version").body.get("gitVersion")
    except MoorageError as fault:
        yield _failed("cluster", fault)
        return
    yield Check(name="cluster", ok=True, message=f"context {cluster.context}, {cluster.host}, {version}")
    try:
        require_namespace(cluster, options.namespace)
        yield Check(name="namespace", ok=True, message=options.namespace)
        require_rights(cluster, options, with_secrets=True)
        yield Check(name="permissions", ok=True, message="all that a start, a look and a stop need")
    except MoorageError as fault:
        yield _failed("namespace" if fault.code == "namespace_missing" else "permissions", fault)
    yield _gpu_check(cluster)


def _allowed(cluster: Cluster, namespace: str, right: Right) -> bool:
    verb, resource, part = right
    attributes: dict[str, Any] = {"namespace": namespace, "verb": verb, "resource": resource, "subresource": part}
    attributes["group"] = GROUPS.get(resource, "")
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = cluster.create(REVIEW, body | {"spec": {"resourceAttributes": attributes}})
    return bool((answer.get("status") or {}).get("allowed"))


def _words(right: Right) -> str:
    verb, resource, part = right
    group = f".{GROUPS[resource]}" if resource in GROUPS else ""
    return f"{verb} {resource}{group}{f'/{part}' if part else ''}"


def _gpu_check(cluster: Cluster) -> Check:
    """Never a failed check: a cluster without GPUs is a good one for services that need none."""
    try:
        nodes = cluster.items(None, "nodes")
    except PreflightError:
        return Check(name="GPUs", ok=True, message=f"nodes may not be read, so {GPU} is not known")
    except MoorageError as fault:
        return _failed("GPUs", fault)
    counts = _gpu_counts(nodes)
    if not any(counts):
        hint = "start with --gpus none, or install the NVIDIA device plugin in the cluster"
        return Check(name="GPUs", ok=True, message=f"no node offers {GPU}", hint=hint)
    message = f"{sum(counts)} {GPU} on {sum(map(bool, counts))} nodes, at most {max(counts)} on one"
    return Check(name="GPUs", ok=True, message=f"{message}; whether they are free shows at a start")


def _gpu_counts(nodes: Sequence[dict[str, Any]]) -> list[int]:
    offered = [str(((node.get("status") or {}).get("allocatable") or {}).get(GPU)) for node in nodes]
    return [int(text) for text in offered if text.isdigit()]


def _failed(name: str, fault: MoorageError) -> Check:
    return Check(name=name, ok=False, message=fault.message, hint=fault.hint or "moor doctor --platform kubernetes")
