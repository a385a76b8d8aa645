"""A cluster for all tests of this folder, and a user who may log in to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.launch.platforms.slurm.platform import Slurm
from tests.contract.platform_contract import Start
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.slurm_cluster import SlurmCluster, slurm_cluster
from tests.real.slurm.services import started_services


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    try:
        with slurm_cluster() as found:
            yield found
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture
def environ(cluster: SlurmCluster, tmp_path: Path) -> dict[str, str]:
    """Of a user who may log in to the cluster."""
    home = tmp_path / "home"
    login = cluster.write_client(home)
    return {"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(tmp_path / "state"), **login}


@pytest.fixture
def platform(environ: dict[str, str]) -> Slurm:
    return Slurm(environ)


@pytest.fixture
def start(platform: Slurm) -> Iterator[Start]:
    yield from started_services(platform)


@pytest.fixture
def shim(cluster: SlurmCluster) -> Iterator[Callable[[str, str], None]]:
    """Put a shell script in front of a program of the login host; in it, `$REAL` is the real one."""
    folder = cluster.login.home / "shim"
    profile = cluster.login.home / ".bashrc"

    def put(program: str, script: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / program).write_text(f"#!/bin/sh\nREAL=/usr/bin/{program}\n{script}\n")
        (folder / program).chmod(0o755)
        before = profile.read_text() if profile.exists() else "echo Welcome to the cluster\n"
        profile.write_text(f"{before}PATH={folder}:$PATH\n")

    yield put
    shutil.rmtree(folder, ignore_errors=True)
    profile.unlink(missing_ok=True)


@pytest.fixture
def sbatch_shim(shim: Callable[[str, str], None]) -> Callable[[str], None]:
    """A shell script in front of the login host's sbatch."""
    return lambda script: shim("sbatch", script)
