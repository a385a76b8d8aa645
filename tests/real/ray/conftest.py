"""One Ray cluster for all of its tests: the control plane's own, which the backend's contract uses as well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.launch.processes import all_processes
from moorage.serving.backends.ray_serve.cluster.local import LocalCluster
from tests.contract.serving_process import GATEWAY_ENV
from tests.real.ray.plane import ServingPlane


@pytest.fixture(scope="session")
def plane(ray_python: Path, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingPlane]:
    """With nothing declared. What it started is gone at the end: every process, and its folder."""
    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("MOORAGE_RAY_PYTHON", str(ray_python))
        # Other tests share this machine: how much memory they take is no reason to end a replica.
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        patch.setenv(GATEWAY_ENV, "")
        plane = ServingPlane(folder, nano)
        try:
            yield plane
        finally:
            plane.close()
            record = plane.record()
            cluster = LocalCluster("plane", {"XDG_STATE_HOME": str(folder / "state")}, time.time)
            assert cluster.end()
            of_it = [one for one in all_processes().values() if one.session == record["pid"]]
            assert not [one for one in of_it if one.lives]
            assert not Path(record["temp_dir"]).exists()


@pytest.fixture(scope="session")
def first(plane: ServingPlane) -> str:
    """The key of a model that was declared first of all and may still be loading."""
    return plane.declare("first.v1", num_replicas=1)
