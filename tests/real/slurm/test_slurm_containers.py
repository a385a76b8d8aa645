"""Containers on the cluster: the stand-in for pyxis, and Slurm's own OCI containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.launch.platforms.slurm.platform import Slurm
from tests.contract.platform_contract import (
    SERVE,
    Start,
    ask,
    await_line,
    digest,
    drain,
    make_submission,
)
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.slurm_cluster import SlurmCluster, await_so
from tests.real.parts.slurm_containers import Containers, slurm_containers
from tests.real.slurm.services import life, nothing_is_left

pytestmark = pytest.mark.slurm

IMAGE = "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-rl"


@pytest.fixture(scope="module")
def containers(cluster: SlurmCluster, parts_cache: Path) -> Iterator[Containers]:
    """From the first test that asks for them until the end of the module."""
    try:
        with slurm_containers(cluster, IMAGE.replace("nvcr.io/", "nvcr.io#"), parts_cache) as found:
            yield found
    except PartMissing as missing:
        require_real(str(missing))


def test_a_service_in_pyxis(
    platform: Slurm, start: Start, containers: Containers, cluster: SlurmCluster, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("weights")
    seen = 'cat /model/weights; touch /model/x || echo read-only; echo "$TAO_API_JOB_ID $FROM_THE_IMAGE"; '
    submission = make_submission(
        "slurm", IMAGE, seen + SERVE, mounts=(f"{model}:/model:ro",), secret_env={"HF_TOKEN": "canary"}
    )
    entry = start(submission)
    await_line(platform, entry, "listening")
    lines = list(platform.logs(entry, tail=None, follow=False))
    assert "weights" in " ".join(lines)
    assert "read-only" in " ".join(lines)
    assert f"{entry['job_id']} image" in lines
    assert ask(entry, "HF_TOKEN") == digest("canary")
    platform.stop(entry)
    nothing_is_left(cluster, entry)


def test_an_image_that_cannot_be_had(platform: Slurm, start: Start, containers: Containers) -> None:
    entry = start(make_submission("slurm", "nvcr.io/no/such:1", SERVE))
    lines = drain(platform, entry)
    assert any("failed to import docker image: nvcr.io#no/such:1" in line for line in lines)
    await_so(lambda: life(platform, entry) == ("exited", "exit code 1"))


def test_a_service_in_a_bundle(platform: Slurm, start: Start, containers: Containers, cluster: SlurmCluster) -> None:
    options = {"container": "oci"}
    submission = make_submission(
        "slurm", str(containers.bundle), SERVE, options=options, secret_env={"HF_TOKEN": "canary"}
    )
    entry = start(submission)
    await_line(platform, entry, "listening")
    assert ask(entry, "HF_TOKEN") == digest("canary")
    platform.stop(entry)
    nothing_is_left(cluster, entry)
