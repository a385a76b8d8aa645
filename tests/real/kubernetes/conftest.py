"""A cluster for all tests of this folder, and a platform that may use it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.launch.platforms.kubernetes.platform import Kubernetes
from tests.contract.platform_contract import Start
from tests.real.kubernetes.services import IMAGE, started_services
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.container_image import base_tar, load_tao_image
from tests.real.parts.kubernetes_build import ensure_programs
from tests.real.parts.kubernetes_cluster import KubernetesCluster, kubernetes_cluster


@pytest.fixture(scope="session")
def cluster(parts_cache: Path) -> Iterator[KubernetesCluster]:
    """One for the run, with the stand-in image on its node."""
    try:
        base, programs = base_tar(parts_cache), ensure_programs(parts_cache, print)
        with kubernetes_cluster(programs, base) as found:
            load_tao_image(found.engine, {"cosmos-rl": IMAGE}, parts_cache)
            yield found
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture
def environ(cluster: KubernetesCluster, tmp_path: Path) -> dict[str, str]:
    """Of a user who may do everything in the cluster."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "xdg-state"),
        "KUBECONFIG": str(cluster.kubeconfig),
    }


@pytest.fixture
def platform(environ: dict[str, str]) -> Kubernetes:
    return Kubernetes(environ)


@pytest.fixture
def start(platform: Kubernetes) -> Iterator[Start]:
    yield from started_services(platform)


@pytest.fixture
def namespace(cluster: KubernetesCluster) -> Iterator[str]:
    """One of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    cluster.delete(f"/api/v1/namespaces/{name}")
