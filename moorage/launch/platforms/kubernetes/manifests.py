"""A service as objects of a cluster: values in, values out, no effects.

What is built holds no secret: a Secret's values are references (`$HF_TOKEN`) until `with_values` puts them in, which
happens on the way to the cluster and nowhere else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from moorage.catalog.mounts import Mount, parse_mount
from moorage.errors import UsageError
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.kubernetes.names import (
    ENTRY_ANNOTATION,
    JOB_LABEL,
    labels_of,
    object_name,
    pull_secret_name,
)
from moorage.launch.platforms.kubernetes.options import KubernetesOptions

Json = dict[str, Any]

GRACE_S = 10
"""What a service has to end by itself."""
PROBE_EVERY_S = 2
STARTUP_FAILURES = 2**31 - 1
"""How long a model may load is said by `--wait`: the cluster must not end a server that still loads."""
PROGRESS_S = 7 * 24 * 3600
PORT_NAME = "http"
CONTAINER = "server"
SERVICE_PORT = 8080
CLAIM = "claim"
HF_FOLDER = "/moorage/huggingface"
"""Where the claim's folder `huggingface` is in the container: HF_HOME."""
PULL_POLICIES = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
SERVICE_TYPES = {"load-balancer": "LoadBalancer", "node-port": "NodePort"}
"""Access → type; ClusterIP for the others."""
DOCKER_CONFIG = ".dockerconfigjson"


def make_manifests(
    submission: Submission, options: KubernetesOptions, *, owner: str, pull: str, shm_bytes: int
) -> list[Json]:
    """The Deployment or Job first, then its Service and its Secrets. `pull`: missing, always or never.

    Raises UsageError for a mount that is none.
    """
    labels = labels_of(submission.job_id, owner)
    name = object_name(submission.job_id)
    found = [_workload(submission, options, labels, pull=pull, shm_bytes=shm_bytes)]
    found.append(_service(submission, options, labels))
    if submission.secret_env:
        found.append(_secret(name, options, labels, "Opaque", {key: f"${key}" for key in submission.secret_env}))
    if options.image_pull_key_env:
        pull_name, reference = pull_secret_name(submission.job_id), f"${options.image_pull_key_env}"
        kind = "kubernetes.io/dockerconfigjson"
        found.append(_secret(pull_name, options, labels, kind, {DOCKER_CONFIG: reference}))
    return found


def with_values(secret: Json, values: Mapping[str, str]) -> Json:
    """The Secret with its values, as it is sent."""
    data = {name: base64.b64encode(text.encode("utf-8", "surrogateescape")).decode() for name, text in values.items()}
    return {**{name: secret[name] for name in secret if name != "stringData"}, "data": data}


def owned_by(manifest: Json, workload: Json) -> Json:
    """The manifest as one that goes when `workload`, as the cluster gave it back, goes."""
    owner = {name: workload[name] for name in ("apiVersion", "kind")}
    owner |= {name: workload["metadata"][name] for name in ("name", "uid")}
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}


def at_rest(workload: Json) -> Json:
    """The Deployment or Job that makes no pod yet: see `run_patch`."""
    return {**workload, "spec": {**workload["spec"], **_rest_field(workload, resting=True)}}


def run_patch(workload: Json) -> Json:
    """The merge patch that lets it make its pod."""
    return {"spec": _rest_field(workload, resting=False)}


def docker_config(registry: str, user: str, password: str) -> str:
    """The content of a pull secret."""
    place = "https://index.docker.io/v1/" if registry == "docker.io" else registry
    login = base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()
    return json.dumps({"auths": {place: {"username": user, "password": password, "auth": login}}})


def literal(text: str) -> str:
    """Text that a cluster gives to the container unchanged: it would replace `$(NAME)`, and reads `$$` as `$`."""
    return text.replace("$", "$$")


def quantity(size_bytes: int) -> str:
    """A number of bytes as clusters write it: `8Gi`."""
    for suffix, shift in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
        if size_bytes and size_bytes % (1 << shift) == 0:
            return f"{size_bytes >> shift}{suffix}"
    return str(size_bytes)


def _workload(submission: Submission, options: KubernetesOptions, labels: Json, *, pull: str, shm_bytes: int) -> Json:
    pod = {
        "metadata": {"labels": labels},
        "spec": _pod(submission, options, pull=pull, shm_bytes=shm_bytes),
    }
    annotations = {ENTRY_ANNOTATION: json.dumps(submission.label)}
    metadata = _metadata(object_name(submission.job_id), options, labels, annotations)
    if options.as_job:
        spec = {"parallelism": 1, "completions": 1, "backoffLimit": 0, "template": pod}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": PROGRESS_S,
        "selector": {"matchLabels": {JOB_LABEL: submission.job_id}},
        "template": pod,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _pod(submission: Submission, options: KubernetesOptions, *, pull: str, shm_bytes: int) -> Json:
    volumes, mounts = _volumes(submission, options, shm_bytes)
    secrets = [options.image_pull_secret] if options.image_pull_secret else []
    secrets += [pull_secret_name(submission.job_id)] if options.image_pull_key_env else []
    return {
        "restartPolicy": "Never" if options.as_job else "Always",
        "automountServiceAccountToken": False,
        # The first process of a pod ignores SIGTERM unless it asks for it: let that be the cluster's own.
        "shareProcessNamespace": True,
        "enableServiceLinks": False,  # a service called `vllm` would set VLLM_PORT
        "terminationGracePeriodSeconds": GRACE_S,
        **({"imagePullSecrets": [{"name": name} for name in secrets]} if secrets else {}),
        "containers": [_container(submission, options, mounts, pull=pull)],
        "volumes": volumes,
    }


def _container(submission: Submission, options: KubernetesOptions, mounts: list[Json], *, pull: str) -> Json:
    probe = {
        "httpGet": {"path": submission.readiness_paths[0], "port": submission.container_port},
        "periodSeconds": PROBE_EVERY_S,
        "timeoutSeconds": 5,
    }
    gpus = {} if submission.gpus == "none" else {"nvidia.com/gpu": str(submission.num_gpus)}
    return {
        "name": CONTAINER,
        "image": submission.image,
        "imagePullPolicy": PULL_POLICIES[pull],
        "command": ["/bin/sh", "-c", literal(submission.command)],
        "env": _env(submission, options),
        "ports": [{"name": PORT_NAME, "containerPort": submission.container_port}],
        "startupProbe": {**probe, "failureThreshold": STARTUP_FAILURES},
        "readinessProbe": {**probe, "failureThreshold": 3},
        **({"resources": {"limits": gpus}} if gpus else {}),
        "volumeMounts": mounts,
    }


def _env(submission: Submission, options: KubernetesOptions) -> list[Json]:
    plain = dict(submission.env)
    if options.pvc:
        plain.setdefault("HF_HOME", HF_FOLDER)
    found: list[Json] = [{"name": name, "value": literal(value)} for name, value in plain.items()]
    secret = object_name(submission.job_id)
    for name in submission.secret_env:
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}})
    return found


def _volumes(submission: Submission, options: KubernetesOptions, shm_bytes: int) -> tuple[list[Json], list[Json]]:
    """(volumes of the pod, mounts of the container)"""
    volumes: list[Json] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(shm_bytes)}}]
    mounts: list[Json] = [{"name": "shm", "mountPath": "/dev/shm"}]
    if options.pvc:
        volumes.append({"name": CLAIM, "persistentVolumeClaim": {"claimName": options.pvc}})
        mounts.append({"name": CLAIM, "mountPath": HF_FOLDER, "subPath": "huggingface"})
    for index, mount in enumerate(map(parse_mount, submission.mounts)):
        _refuse_twice(mount, mounts)
        if options.pvc:
            mounts.append(_claim_mount(mount))
            continue
        volumes.append({"name": f"mount-{index}", "hostPath": {"path": mount.source, "type": "Directory"}})
        mounts.append({"name": f"mount-{index}", "mountPath": mount.target, "readOnly": True})
    return volumes, mounts


def _claim_mount(mount: Mount) -> Json:
    """A folder of the claim; `/` is the claim itself."""
    parts = [part for part in mount.source.split("/") if part not in ("", ".")]
    inside = {"subPath": "/".join(parts)} if parts else {}
    return {"name": CLAIM, "mountPath": mount.target, **inside, **({"readOnly": True} if mount.read_only else {})}


def _refuse_twice(mount: Mount, mounts: list[Json]) -> None:
    if any(mount.target.rstrip("/") == other["mountPath"].rstrip("/") for other in mounts):
        raise UsageError(
            f"mount {mount.text}: something is at {mount.target} already", code="bad_mount", hint="correct --mount"
        )


def _service(submission: Submission, options: KubernetesOptions, labels: Json) -> Json:
    port = {"name": PORT_NAME, "port": SERVICE_PORT, "targetPort": submission.container_port}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(object_name(submission.job_id), options, labels),
        "spec": {
            "type": SERVICE_TYPES.get(options.access, "ClusterIP"),
            "selector": {JOB_LABEL: submission.job_id},
            "ports": [port],
            # With one pod, a server that says why it is not ready tells more than a refused connection.
            "publishNotReadyAddresses": True,
        },
    }


def _secret(name: str, options: KubernetesOptions, labels: Json, kind: str, references: Json) -> Json:
    metadata = _metadata(name, options, labels)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": references}


def _metadata(name: str, options: KubernetesOptions, labels: Json, annotations: Json | None = None) -> Json:
    metadata: Json = {"name": name, "namespace": options.namespace, "labels": labels}
    return metadata | ({"annotations": annotations} if annotations else {})


def _rest_field(workload: Json, *, resting: bool) -> Json:
    """A Deployment of no pods would count as one that was ready: paused, it is not judged."""
    return {"parallelism": 0 if resting else 1} if workload["kind"] == "Job" else {"paused": resting}
