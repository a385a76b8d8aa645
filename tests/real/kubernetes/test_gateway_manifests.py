"""The gateway's manifests, on a real API server: each is created, but for the last step (a server-side dry run)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.real.parts.kubernetes_cluster import KubernetesCluster

pytestmark = pytest.mark.kubernetes

FOLDER = ROOT / "deploy" / "kubernetes"
PLACES = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "PodDisruptionBudget": "/apis/policy/v1beta1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
"""Of Kubernetes 1.20, which is Debian's: budgets were in v1beta1 then, with the fields that they have in v1."""


def manifests() -> list[dict[str, Any]]:
    return [one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]


def dry_run(cluster: KubernetesCluster, namespace: str, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    place = PLACES[manifest["kind"]].format(namespace)
    api = place.split("/")[2:4] if place.startswith("/apis/") else place.split("/")[2:3]
    return cluster.ask("POST", f"{place}?dryRun=All", {**manifest, "apiVersion": "/".join(api)})


def lost(sent: Any, kept: Any, at: str = "") -> list[str]:
    """What the server did not keep: it takes fields that it does not know, and drops them."""
    if isinstance(sent, dict):
        there = kept if isinstance(kept, dict) else {}
        return [one for name, value in sent.items() for one in lost(value, there.get(name), f"{at}/{name}")]
    if isinstance(sent, list):
        there = kept if isinstance(kept, list) else []
        pairs = zip(sent, [*there, *[None] * len(sent)], strict=False)
        return [one for index, (mine, theirs) in enumerate(pairs) for one in lost(mine, theirs, f"{at}/{index}")]
    return [] if sent == kept else [f"{at}: {sent!r} is {kept!r}"]


def test_the_api_server_takes_every_manifest_and_keeps_every_field(cluster: KubernetesCluster, namespace: str) -> None:
    assert {one["kind"] for one in manifests()} == set(PLACES)
    for manifest in manifests():
        status, answer = dry_run(cluster, namespace, manifest)
        assert status == 201, answer
        sent = {name: value for name, value in manifest.items() if name != "apiVersion"}
        assert lost(sent, answer) == []
        place = f"{PLACES[manifest['kind']].format(namespace)}/{manifest['metadata']['name']}"
        assert cluster.ask("GET", place)[0] == 404


def test_what_is_wrong_would_be_seen(cluster: KubernetesCluster, namespace: str) -> None:
    [deployment] = [one for one in manifests() if one["kind"] == "Deployment"]
    misspelt, impossible = copy.deepcopy(deployment), copy.deepcopy(deployment)
    misspelt["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {"periodSeconds": 1}
    status, answer = dry_run(cluster, namespace, misspelt)
    assert status == 201
    assert lost(misspelt["spec"], answer["spec"]) == [
        "/template/spec/containers/0/livenesProbe/periodSeconds: 1 is None"
    ]
    impossible["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = "htp://"
    assert dry_run(cluster, namespace, impossible)[0] == 422
