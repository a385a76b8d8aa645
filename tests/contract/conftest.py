"""TEMPORARY stub until tests/conftest.py has these."""

import pytest

from tests.real.parts.docker_engine import find_engine, private_engine


@pytest.fixture(scope="session")
def docker_engine():
    return find_engine()


@pytest.fixture(scope="session")
def tao_image(docker_engine):
    class Image:
        names = {"cosmos-rl": "plat-py:deb"}

    return Image()


@pytest.fixture(scope="session")
def docker_engine_with_gpus():
    with private_engine(with_gpus=True) as engine:
        yield engine
