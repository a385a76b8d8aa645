"""A Brev of this test's own: a machine elsewhere that is real, and a stand-in for the command and the cloud."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.launch.platforms.brev.platform import Brev
from moorage.launch.processes import all_processes, environment_of
from tests.contract.stand_ins import StandIns, processes_of
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.brev_shim import Shim
from tests.real.parts.container_image import TAO_ARCHS, TaoImage, load_tao_image
from tests.real.parts.remote_box import RemoteBox, remote_box

NUMBERS = itertools.count()


def end_stale_tunnels() -> None:
    """Tunnels outlive whoever started them: those of test runs that were killed are told by their HOME."""
    for pid in all_processes():
        environ = environment_of(pid)
        owner = environ.get("HOME", "").removeprefix("/tmp/moor-host-").partition("-")[0]
        if "MOORAGE_TUNNEL" in environ and owner.isdigit() and not Path("/proc", owner).exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="package")
def box() -> Iterator[RemoteBox]:
    """What an instance is: a host with sshd and Docker."""
    end_stale_tunnels()
    try:
        with remote_box() as made:
            yield made
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture(scope="package")
def box_image(box: RemoteBox, parts_cache: Path) -> TaoImage:
    """The stand-in image in it."""
    names = {arch: f"moorage-test/{arch}:1" for arch in TAO_ARCHS}
    try:
        image = load_tao_image(box.engine, names, parts_cache)
    except PartMissing as missing:
        require_real(str(missing))
    return TaoImage(image.names, {TAO_ARCHS[arch]: name for arch, name in image.names.items()})


@pytest.fixture
def shim(box: RemoteBox) -> Iterator[Shim]:
    """A Brev with no instances, and nothing left in the box after the test."""
    made = Shim(box.host.folder / f"brev{next(NUMBERS)}", box.server.key)
    yield made
    made.change(block="")
    left = box.engine.docker("ps", "--all", "--quiet").stdout.split()
    if left:
        box.engine.docker("rm", "--force", "--volumes", *left)


@pytest.fixture
def machine(box: RemoteBox) -> dict[str, object]:
    """Where an instance of the shim is."""
    return {"address": box.server.address, "port": box.server.port, "user": "root"}


@pytest.fixture
def environ(shim: Shim, state_file: Path) -> dict[str, str]:
    return {**os.environ, **shim.environ}


@pytest.fixture
def platform(environ: dict[str, str]) -> Brev:
    return Brev(environ)


@pytest.fixture
def image(box_image: TaoImage) -> str:
    return box_image.names["cosmos-rl"]


@pytest.fixture
def services(
    shim: Shim, machine: dict[str, object], box: RemoteBox, box_image: TaoImage, tmp_path: Path
) -> Iterator[StandIns]:
    """Whole services through the command line, on one instance that runs."""
    shim.add_instance("box", **machine)
    found = StandIns("brev", tmp_path, {**os.environ, **shim.environ, **box_image.environ}, box.engine)
    try:
        yield found
        left = {job_id: processes_of(job_id) for job_id in found.job_ids}
    finally:
        found.clean_up()
    assert not any(left.values()) or found.read_state() == {}, left
