"""A cluster for all tests of this folder, and a user who may log in to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.launch.entry import Entry
from moorage.launch.platforms.slurm.platform import Slurm
from tests.contract import platform_contract
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


@pytest.fixture(autouse=True)
def patient_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel needs a moment to learn where the service listens: until then it closes what connects."""
    at_once = platform_contract.ask

    def patient(entry: Entry, name: str) -> str:
        deadline = time.monotonic() + platform_contract.WAIT_S
        while True:
            try:
                return at_once(entry, name)
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    monkeypatch.setattr(platform_contract, "ask", patient)


@pytest.fixture
def sbatch_shim(cluster: SlurmCluster) -> Iterator[Callable[[str], None]]:
    """Put a shell script in front of the login host's sbatch; in it, `$REAL` is the real one."""
    folder = cluster.login.home / "shim"
    profile = cluster.login.home / ".bashrc"

    def put(script: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "sbatch").write_text(f"#!/bin/sh\nREAL=/usr/bin/sbatch\n{script}\n")
        (folder / "sbatch").chmod(0o755)
        profile.write_text(f"echo Welcome to the cluster\nPATH={folder}:$PATH\n")

    yield put
    profile.unlink(missing_ok=True)
