"""The serving control plane's manifests, on a real API server that knows KubeRay's definition of a cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.bundle.kuberay.trim import FILE
from tests.conftest import ROOT
from tests.contract.gateway_process import wait_until
from tests.real.kubernetes.test_gateway_manifests import PLACES, lost
from tests.real.parts.kubernetes_cluster import KubernetesCluster

pytestmark = pytest.mark.kubernetes

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RAY = "/apis/ray.io/v1/namespaces/{}/rayclusters"
MANIFESTS: list[dict[str, Any]] = [
    one
    for file in sorted((ROOT / "deploy" / "kubernetes" / "serving").glob("*.yaml"))
    for one in yaml.safe_load_all(file.read_text())
]


@pytest.fixture
def kuberay(cluster: KubernetesCluster, namespace: str) -> Iterator[str]:
    """The namespace, on a server that takes RayClusters."""
    definition = yaml.safe_load(FILE.read_text())
    status, answer = cluster.ask("POST", DEFINITIONS, definition)
    assert status in (201, 409), answer["message"]
    wait_until(lambda: cluster.ask("GET", RAY.format(namespace))[0] == 200)
    yield namespace
    cluster.ask("DELETE", f"{DEFINITIONS}/{definition['metadata']['name']}")


def dry_run(cluster: KubernetesCluster, namespace: str, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    place = {**PLACES, "RayCluster": RAY}[manifest["kind"]].format(namespace)
    return cluster.ask("POST", f"{place}?dryRun=All", manifest)


def test_the_api_server_takes_every_manifest_and_keeps_every_field(cluster: KubernetesCluster, kuberay: str) -> None:
    assert "RayCluster" in {one["kind"] for one in MANIFESTS}
    for manifest in MANIFESTS:
        status, answer = dry_run(cluster, kuberay, manifest)
        assert status == 201, answer
        assert lost(manifest, answer) == []


def test_what_is_wrong_with_a_cluster_would_be_seen(cluster: KubernetesCluster, kuberay: str) -> None:
    [manifest] = [one for one in MANIFESTS if one["kind"] == "RayCluster"]
    wrong, misspelt = copy.deepcopy(manifest), copy.deepcopy(manifest)
    wrong["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert dry_run(cluster, kuberay, wrong)[0] == 422
    misspelt["spec"]["headGroupSpec"]["serviceTyp"] = "ClusterIP"
    status, answer = dry_run(cluster, kuberay, misspelt)
    assert status == 201
    assert lost(misspelt, answer) == ["/spec/headGroupSpec/serviceTyp: 'ClusterIP' is None"]
