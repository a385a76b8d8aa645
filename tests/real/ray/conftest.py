"""One Ray cluster for all of its tests: the control plane's own, which the backend's contract uses as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.ray.plane import ServingPlane, running_plane


@pytest.fixture(scope="session")
def plane(ray_python: Path, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingPlane]:
    """With nothing declared. What it started is gone at the end: every process, and its folder."""
    with running_plane(tmp_path_factory.mktemp("ray"), nano, ray_python) as plane:
        yield plane


@pytest.fixture(scope="session")
def first(plane: ServingPlane) -> str:
    """The key of a model that was declared first of all and may still be loading."""
    return plane.declare("first.v1", num_replicas=1)
