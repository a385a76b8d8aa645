"""Fixtures of the tests that drive whole services: the stand-in on either platform."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.stand_ins import StandIns, add_dataservices

PLATFORMS = ["local-process", pytest.param("local-docker", marks=pytest.mark.docker)]


def open_stand_ins(platform: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[StandIns]:
    if platform == "local-docker":
        engine = request.getfixturevalue("docker_engine")
        image = request.getfixturevalue("tao_image_of_run")
        found = StandIns(platform, folder, {**os.environ, **image.environ}, engine)
    else:
        programs = folder / "programs"
        programs.mkdir()
        path = f"{add_dataservices(programs)}{os.pathsep}{os.environ['PATH']}"
        found = StandIns(platform, folder, {**os.environ, "PATH": path}, None)
    try:
        yield found
    finally:
        found.clean_up()


@pytest.fixture(params=PLATFORMS)
def stand_ins(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StandIns]:
    """On both platforms, one after the other."""
    yield from open_stand_ins(request.param, tmp_path, request)


@pytest.fixture
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StandIns]:
    """On local-process alone: for what is the same everywhere."""
    yield from open_stand_ins("local-process", tmp_path, request)


@pytest.fixture
def in_docker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StandIns]:
    """On local-docker alone. Tests that use it carry the mark `docker`."""
    yield from open_stand_ins("local-docker", tmp_path, request)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """On local-process, for all tests of a module, which must leave its services as they are."""
    yield from open_stand_ins("local-process", tmp_path_factory.mktemp("shared"), request)
